package main

import (
	"fmt"
	"os"
	"strings"
)

// identify reads a process's identity. It fails for a process that does not run.
func identify(pid int) (Identity, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Identity{}, err
	}
	state, started, err := parseStat(string(stat))
	if err != nil {
		return Identity{}, fmt.Errorf("process %d: %w", pid, err)
	}
	if state == "Z" || state == "X" {
		return Identity{}, fmt.Errorf("process %d has ended", pid)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Identity{}, err
	}
	return Identity{PID: pid, Started: started, Boot: strings.TrimSpace(string(boot))}, nil
}

// parseStat takes state and start time, in clock ticks since boot, from proc_pid_stat(5). The name before them is in
// parentheses and may itself hold spaces and parentheses.
func parseStat(stat string) (state, started string, err error) {
	end := strings.LastIndex(stat, ")")
	if end < 0 {
		return "", "", fmt.Errorf("no command name in %q", stat)
	}
	const startTime = 22 - 3 // the field's number in the manual, less the two fields cut off, counted from 0
	fields := strings.Fields(stat[end+1:])
	if len(fields) <= startTime {
		return "", "", fmt.Errorf("only %d fields in %q", len(fields), stat)
	}
	return fields[0], fields[startTime], nil
}
