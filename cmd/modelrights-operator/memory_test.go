package main

import (
	"testing"
	"time"
)

func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for live, want := range map[uint64]int{0: 100, 20 * mib: 100, 64 * mib: 100, 128 * mib: 50, 200 * mib: 32, 256 * mib: 25, 4096 * mib: 25} {
		if got := gcPercent(live, starting); got != want {
			t.Errorf("with %d MiB alive: %d, want %d", live/mib, got, want)
		}
	}
	if got := gcPercent(4096*mib, time.Minute); got != startingGCPercent {
		t.Errorf("while caches fill: %d", got)
	}
}
