package nodedriver

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// GuardMemory keeps the process's own memory, through which keys pass, from swap and from core dumps. It needs
// CAP_IPC_LOCK.
func GuardMemory() error {
	return errors.Join(
		explain("lock the memory", unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT)),
		explain("turn core dumps off", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)),
	)
}

func explain(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
