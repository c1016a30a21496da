package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"time"
)

const (
	// heapRoom is how many bytes a small heap may grow between two collections: what 200 admission requests allocate.
	heapRoom = 64 << 20

	// leastGCPercent is by how much a large heap may grow at least: with less, collections take much of the processors.
	leastGCPercent = 25

	// starting is for how long a process fills its caches, at most: what it decodes meanwhile is several times what it keeps,
	// and with little room it would collect for longer than it decodes. Until then the heap may grow by startingGCPercent: with
	// more, what is kept lies scattered among what is not, and half of the memory stays unused for good.
	starting          = 2 * time.Minute
	startingGCPercent = 50

	// tuneEvery is how often the collector's pace is adapted to the heap.
	tuneEvery = time.Second
)

// limitMemory makes the garbage collector work harder when nine tenths of the container's limit are used, rather than
// let the kernel end the process. A limit that is no number of bytes is none.
func limitMemory(bytes string) {
	if limit, err := strconv.ParseInt(bytes, 10, 64); err == nil && limit > 0 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
}

// paceGC has memory follow what is alive: the default lets the heap double before it is collected, which, where there are
// a hundred thousand grants, is hundreds of megabytes of garbage. Whoever sets GOGC decides for themselves. It returns
// when ctx ends.
func paceGC(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	began := time.Now()
	tick := time.NewTicker(tuneEvery)
	defer tick.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	last, started := 100, false
	for {
		metrics.Read(live)
		age := time.Since(began)
		if percent := gcPercent(live[0].Value.Uint64(), age); percent != last {
			debug.SetGCPercent(percent)
			last = percent
		}
		if !started && age >= starting {
			started = true
			debug.FreeOSMemory() // which would take minutes otherwise
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// gcPercent is by how much a heap of which so many bytes are alive may grow until the next collection, in a process of that
// age: GOGC.
func gcPercent(live uint64, age time.Duration) int {
	if age < starting {
		return int(min(100, max(startingGCPercent, heapRoom*100/max(1, live))))
	}
	return int(min(100, max(leastGCPercent, heapRoom*100/max(1, live))))
}
