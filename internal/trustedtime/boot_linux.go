package trustedtime

import (
	"time"

	"golang.org/x/sys/unix"
)

var processBegan = time.Now()

// sinceBoot is the kernel's CLOCK_BOOTTIME (clock_gettime(2)). Go's own monotonic clock stands still while the machine is
// suspended: licences would go on that have ended meanwhile.
func sinceBoot() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Since(processBegan) // no Linux since 2.6.39 refuses
	}
	return time.Duration(now.Nano())
}
