package nodedriver

import "time"

// BootClock is the time since the node was started. It goes on while the node is suspended, and nobody sets it, so that
// neither a wall clock that jumps nor a restart of the driver changes when a lease is over.
type BootClock interface {
	// ID tells one start of the node from another.
	ID() string

	// Now is how long ago that was.
	Now() time.Duration
}
