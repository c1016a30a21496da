package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// portHolder is a process that listens on a port; PID is 0 where it cannot be found out.
type portHolder struct {
	PID  int
	Name string
}

// checkPorts returns one error that names every port that is taken, who has it where that can be found out, and the
// variable that chooses another.
func checkPorts(uses []portUse, holder func(int) portHolder) error {
	var taken []string
	for _, use := range uses {
		if free(use.number) {
			continue
		}
		who := "another process"
		if found := holder(use.number); found.PID != 0 {
			who = fmt.Sprintf("%s (process %d)", found.Name, found.PID)
		}
		taken = append(taken, fmt.Sprintf("  port %d, wanted by %s, is held by %s: stop it, or set %s", use.number, use.part, who, use.variable))
	}
	if taken == nil {
		return nil
	}
	return fmt.Errorf("ports are in use, perhaps by another cluster:\n%s", strings.Join(taken, "\n"))
}

// free says whether nobody listens on the port, on any address.
func free(port int) bool {
	for _, address := range []string{"", loopback} {
		listener, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		if errors.Is(err, syscall.EADDRINUSE) {
			return false
		}
		if err == nil {
			listener.Close() //nolint:errcheck // it was only asked whether it opens
		}
	}
	return true
}

// findHolder looks a listening port up in /proc: the socket's inode, then the process that has it open.
func findHolder(port int) portHolder {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		file, err := os.Open(table)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if found, inode := parseListener(lines.Text()); found == port {
				inodes["socket:["+inode+"]"] = true
			}
		}
		file.Close() //nolint:errcheck // read only
	}
	if len(inodes) == 0 {
		return portHolder{}
	}
	descriptors, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return portHolder{}
	}
	for _, descriptor := range descriptors {
		target, err := os.Readlink(descriptor)
		if err != nil || !inodes[target] {
			continue
		}
		process := filepath.Dir(filepath.Dir(descriptor))
		pid, err := strconv.Atoi(filepath.Base(process))
		if err != nil {
			continue
		}
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil {
			continue
		}
		return portHolder{PID: pid, Name: strings.TrimSpace(string(name))}
	}
	return portHolder{}
}

// parseListener takes port and inode from a line of /proc/net/tcp if the socket listens; else the port is 0.
func parseListener(line string) (port int, inode string) {
	const local, state, inodeField, listening = 1, 3, 9, "0A"
	fields := strings.Fields(line)
	if len(fields) <= inodeField || fields[state] != listening {
		return 0, ""
	}
	_, hex, found := strings.Cut(fields[local], ":")
	if !found {
		return 0, ""
	}
	number, err := strconv.ParseUint(hex, 16, 16)
	if err != nil {
		return 0, ""
	}
	return int(number), fields[inodeField]
}
