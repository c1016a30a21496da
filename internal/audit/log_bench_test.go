package audit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// slowCreator takes every record, after the time that a create takes on an API server with one etcd.
type slowCreator struct {
	took    time.Duration
	records atomic.Int64
}

func (s *slowCreator) Create(context.Context, client.Object, ...client.CreateOption) error {
	time.Sleep(s.took)
	s.records.Add(1)
	return nil
}

// BenchmarkAppend measures one Append at a time, long after the last, and many at once. Records take 4 ms to create.
func BenchmarkAppend(b *testing.B) {
	for _, appenders := range []int{1, 64, 2048} {
		b.Run(fmt.Sprintf("appenders=%d", appenders), func(b *testing.B) {
			creator := &slowCreator{took: 4 * time.Millisecond}
			l, err := New(Options{Client: creator, Reader: newClient(b), Identity: "operator-0"})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			go func() { ended <- l.Start(ctx) }()
			var mu sync.Mutex
			var took []time.Duration
			var next atomic.Int64
			var wg sync.WaitGroup
			for range appenders {
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						if appenders == 1 {
							time.Sleep(300 * time.Millisecond)
						}
						began := time.Now()
						if _, err := l.Append(ctx, release()); err != nil {
							b.Error(err)
						}
						mu.Lock()
						took = append(took, time.Since(began))
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(b.N)/float64(creator.records.Load()), "entries/record")
			if appenders > 1 {
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			}
		})
	}
}
