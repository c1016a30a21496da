package gauge

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPUTime is what a process has used of CPUs, in user and kernel mode. It is the figure of /proc/PID/stat, but to the
// nanosecond instead of to hundredths of a second.
func CPUTime(pid int) (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED of the kernel's include/linux/posix-timers.h
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|schedClock, &t); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// Memory is how much of the machine's a process holds, in bytes.
type Memory struct {
	// RSS is what is resident now, PeakRSS the most that ever was.
	RSS, PeakRSS int64
	// PSS is the resident memory with pages that are shared with other processes divided among them.
	PSS int64
}

// MemoryOf reads it from /proc.
func MemoryOf(pid int) (Memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, err
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return Memory{}, err
	}
	var m Memory
	for field, where := range map[string]*int64{"VmRSS": &m.RSS, "VmHWM": &m.PeakRSS} {
		if *where, err = kilobytes(status, field); err != nil {
			return Memory{}, err
		}
	}
	if m.PSS, err = kilobytes(rollup, "Pss"); err != nil {
		return Memory{}, err
	}
	return m, nil
}

// kilobytes reads a line of the form "Name:   123 kB" and returns bytes.
func kilobytes(text []byte, name string) (int64, error) {
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) == 3 && fields[0] == name+":" && fields[2] == "kB" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("there is no line %s", name)
}

// children are the processes that this one has started.
func children() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		if parentOf(stat) == os.Getpid() {
			found = append(found, pid)
		}
	}
	return found, nil
}

// parentOf reads the parent from /proc/PID/stat, in which the process's name, in brackets, may hold anything; -1 where
// there is none.
func parentOf(stat []byte) int {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return -1
	}
	if parent, err := strconv.Atoi(fields[1]); err == nil {
		return parent
	}
	return -1
}

// busy is how much CPU time the whole machine has used since it was started, from the first line of /proc/stat.
func busy(stat []byte) (time.Duration, error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every platform that Linux runs on today
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, errors.New("/proc/stat does not begin with a line on all CPUs")
	}
	var ticks int64
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if idle := i == 3 || i == 4; !idle {
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}

// Usage tells what the benchmark and what others used of the machine's CPUs.
type Usage struct {
	At         time.Time
	all, owned time.Duration
}

// TakeUsage reads it, now.
func TakeUsage() (Usage, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Usage{}, err
	}
	u := Usage{At: time.Now()}
	if u.all, err = busy(stat); err != nil {
		return Usage{}, err
	}
	pids, err := children()
	if err != nil {
		return Usage{}, err
	}
	for _, pid := range append(pids, os.Getpid()) {
		if used, err := CPUTime(pid); err == nil {
			u.owned += used
		}
	}
	return u, nil
}

// ForeignSince is how many CPUs others kept busy on average since the earlier reading.
func (u Usage) ForeignSince(before Usage) float64 {
	return max(0, float64((u.all-before.all)-(u.owned-before.owned))/float64(u.At.Sub(before.At)))
}

// LoadAverages are the machine's over 1, 5 and 15 minutes.
func LoadAverages() (string, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return "", errors.New("/proc/loadavg does not hold three averages")
	}
	return strings.Join(fields[:3], " "), nil
}
