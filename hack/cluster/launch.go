package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The main goroutine stays on the process's first thread. Were another thread to become the program in launch, the first
// one would look like a zombie for a moment, and a part that starts like one that has ended.
func init() { runtime.LockOSThread() }

// launch is the child's half of start: it joins the control group, records its own identity and becomes the program.
// Becoming it keeps process number and start time, so at no moment does a part run that is not on record, even
// when `up` is killed in the middle.
func launch(args []string) error {
	flags := flag.NewFlagSet("launch", flag.ContinueOnError)
	record := flags.String("record", "", "`file` to record the process in")
	join := flags.String("join", "", "cgroup.procs `file` to join")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("launch: no program given")
	}
	if *join != "" {
		if err := os.WriteFile(*join, []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return fmt.Errorf("join the control group: %w", err)
		}
	}
	identity, err := identify(os.Getpid())
	if err != nil {
		return fmt.Errorf("identify the process: %w", err)
	}
	if err := writeIdentity(*record, identity); err != nil {
		return fmt.Errorf("record the process: %w", err)
	}
	program := flags.Args()
	if err := syscall.Exec(program[0], program, os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", program[0], err)
	}
	return nil
}

// start starts a part as a session of its own, its output appended to its log. It returns as soon as the part is on
// record; whether it works is for the part's ready to say.
func (c *Cluster) start(p part) error {
	if identity, err := readIdentity(c.PidFile(p.name)); err != nil {
		return err
	} else if identity.alive() {
		return fmt.Errorf("%s already runs as process %d", p.name, identity.PID)
	}
	if err := errors.Join(os.RemoveAll(c.PidFile(p.name)), os.MkdirAll(filepath.Dir(c.PidFile(p.name)), 0o755),
		os.MkdirAll(c.Logs(), 0o755), os.MkdirAll(c.Data(p.name), 0o700)); err != nil {
		return fmt.Errorf("prepare to start %s: %w", p.name, err)
	}
	log, err := os.OpenFile(c.Log(p.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", p.name, err)
	}
	defer log.Close()
	args := []string{"launch", "--record=" + c.PidFile(p.name)}
	if c.NodeParts {
		join, err := joinFile(c.Settings)
		if err != nil {
			return err
		}
		args = append(args, "--join="+join)
	}
	command := exec.Command(c.self, append(append(args, "--"), p.command(c)...)...)
	command.Stdout, command.Stderr = log, log
	command.Dir = c.Data(p.name)
	command.Env = partEnvironment()
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for {
		if identity, err := readIdentity(c.PidFile(p.name)); err == nil && identity.PID == command.Process.Pid {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("%s ended at once (%w); the end of its log:\n%s", p.name, err, c.logTail(p.name))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// partEnvironment keeps the caller's proxies, kubeconfigs and so on away from the parts.
func partEnvironment() []string {
	return []string{"PATH=" + searchPath, "HOME=/", "LANG=C.UTF-8"}
}

// searchPath is where programs are looked up. It does not depend on the caller's, which may lack the sbin directories.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// stop ends a part: kindly at first, by force after the grace. A part that does not run is no error.
func (c *Cluster) stop(p part, grace time.Duration) error {
	identity, err := readIdentity(c.PidFile(p.name))
	if err != nil {
		return err
	}
	for _, attempt := range []struct {
		signal os.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, 10 * time.Second}} {
		present, err := identity.signal(attempt.signal)
		if err != nil {
			return fmt.Errorf("stop %s: %w", p.name, err)
		}
		if !present {
			return os.RemoveAll(c.PidFile(p.name))
		}
		for deadline := time.Now().Add(attempt.wait); time.Now().Before(deadline) && identity.alive(); {
			time.Sleep(20 * time.Millisecond)
		}
	}
	if identity.alive() {
		return fmt.Errorf("stop %s: process %d does not end, even by force: it hangs in the kernel", p.name, identity.PID)
	}
	return os.RemoveAll(c.PidFile(p.name))
}

// logTail is the end of a part's log, for an error message.
func (c *Cluster) logTail(name string) string {
	content, err := os.ReadFile(c.Log(name))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-15):], "\n  ")
}
