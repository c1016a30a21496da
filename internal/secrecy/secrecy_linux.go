// Package secrecy keeps the memory of the process, through which keys pass, to itself: out of core dumps and out of swap.
package secrecy

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// DisableCoreDumps makes the kernel write no core dump of this process and of those that it starts, and lets no process
// without CAP_SYS_PTRACE attach to it (prctl(2), PR_SET_DUMPABLE). It needs no privilege.
func DisableCoreDumps() error {
	return errors.Join(
		explain("make the process undumpable", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)),
		explain("set the limit of core dumps to 0", unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})),
	)
}

// LockMemory keeps what the process holds now, and what it will hold, in RAM (mlockall(2)). It needs CAP_IPC_LOCK. After an
// error the memory may be swapped, where swap is on.
func LockMemory() error {
	return explain("lock the memory", unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT))
}

func explain(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
