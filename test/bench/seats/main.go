// Command seats measures how fast pods get their seats, and what the operator costs while very many pods hold some:
// memory and CPU at rest, while pods come and go, and while nodes renew their leases, and how long it takes to start.
// docs/benchmarks.md says how to read it.
//
// It starts an API server, etcd and the operator's binary, each a process of its own, and ends them. There are no kubelets
// and no scheduler.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"modelrights.dev/modelrights/test/bench/run"
)

func main() {
	o := run.Register(flag.CommandLine, "seats", 30*time.Minute)
	burst := flag.Int("burst", 0, "pods that are created at once; 0: 5000, or 500 with -short")
	licenses := flag.Int("licenses", 0, "licences, of ten grants each; 0: 10000, or 1000 with -short")
	held := flag.Int("held", 0, "pods that hold a seat, at most 9 for each licence; 0: 50000, or 5000 with -short")
	flag.Parse()
	p := full()
	if o.Short {
		p = short()
	}
	for given, to := range map[*int]*int{burst: &p.Burst, licenses: &p.Licenses, held: &p.Held} {
		if *given > 0 {
			*to = *given
		}
	}
	o.Check(p.validate())
	o.Main(func(ctx context.Context, r *run.Run) error {
		result, err := measureAll(ctx, r, p)
		if result == nil || result.Scale == nil {
			return err
		}
		if failed := result.Scale.Failed; failed != "" {
			err = errors.Join(fmt.Errorf("not all was measured: %s", failed), err)
		}
		return errors.Join(r.Write(result, result.print), err)
	})
}
