package nodedriver

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// LinuxBootClock is the kernel's CLOCK_BOOTTIME (clock_gettime(2)).
type LinuxBootClock struct{ id string }

var _ BootClock = LinuxBootClock{}

// NewLinuxBootClock returns the clock of this start of the node. The error means that the kernel does not tell the two.
func NewLinuxBootClock() (LinuxBootClock, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return LinuxBootClock{}, fmt.Errorf("read the boot ID: %w", err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return LinuxBootClock{}, fmt.Errorf("read the time since the node's start: %w", err)
	}
	return LinuxBootClock{id: strings.TrimSpace(string(id))}, nil
}

// ID is the kernel's boot ID. See BootClock.
func (c LinuxBootClock) ID() string { return c.id }

// Now reads the clock, which cannot fail once it has not. See BootClock.
func (LinuxBootClock) Now() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return time.Duration(now.Nano())
}
