package main

import (
	"context"
	"fmt"
	"time"

	"modelrights.dev/modelrights/test/bench/gauge"
)

// profileSeconds is how long CPU profiles are.
const profileSeconds = 10

// profile writes, at the end of each size, a profile of the operator's heap and one of its CPU under each of the variants
// that call it, to be read with go tool pprof. It costs time and is no part of what is measured.
func (b *bench) profile(ctx context.Context, licenses int) error {
	save := func(name, query string) error {
		return b.run.Profile(fmt.Sprintf("%s-%d", name, licenses), func() ([]byte, error) { return b.operator.Profile(ctx, query) })
	}
	if err := save("heap", "heap?gc=1"); err != nil {
		return err
	}
	for _, v := range variants() {
		if len(v.webhooks) == 0 || v.webhooks[0] != ourMutating {
			continue
		}
		written := make(chan error, 1)
		go func() { written <- save("cpu-"+v.Name, fmt.Sprintf("profile?seconds=%d", profileSeconds)) }()
		_, interval := b.plan.slice(&v)
		gauge.Fire(ctx, int(profileSeconds*time.Second/interval), interval, func(ctx context.Context, i int) error { return b.sender.send(ctx, &v, i) })
		if err := <-written; err != nil {
			return err
		}
		if v.stored {
			if err := b.clear(ctx, v.namespace); err != nil {
				return err
			}
		}
	}
	return b.operator.Settle(ctx, time.Second, settleAtMost)
}
