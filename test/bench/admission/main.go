// Command admission measures what admission costs: the API server's latency and the operator's CPU and memory, with
// pods of several kinds, in one run, interleaved, at a fixed rate of arrival. docs/benchmarks.md says how to read it.
//
// It starts an API server, etcd, the operator's binary and an empty webhook, each a process of its own, and ends them.
package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"modelrights.dev/modelrights/test/bench/run"
)

func main() {
	o := run.Register(flag.CommandLine, "admission", 30*time.Minute)
	empty := flag.String("serve-empty", "", "serve the empty webhook at this address, and do nothing else")
	dir := flag.String("dir", "", "directory of its certificate")
	sizes := flag.String("sizes", "", "numbers of licences, ascending, separated by commas; empty: 10,1000,10000, or 10,1000 with -short")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the order of the slices")
	slices := flag.Int("slices", 0, "of each variant at each size; 0: 12, or 3 with -short")
	viaAPI := flag.Bool("via-api", false, "create every licence and grant through the API server, which takes long")
	flag.Parse()
	if *empty != "" {
		o.Check(serveEmpty(*empty, *dir))
		return
	}
	p := full()
	if o.Short {
		p = short()
	}
	if *slices > 0 {
		p.Slices = *slices
	}
	if *sizes != "" {
		var err error
		p.Sizes, err = numbers(*sizes)
		o.Check(err)
	}
	p.Seed = *seed
	o.Check(p.validate())
	o.Main(func(ctx context.Context, r *run.Run) error {
		result, err := measureAll(ctx, r, p, *viaAPI)
		if err != nil {
			return err
		}
		if err := r.Write(result, result.print); err != nil {
			return err
		}
		return result.problems()
	})
}

// numbers reads numbers that are separated by commas.
func numbers(text string) ([]int, error) {
	var all []int
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(one)
		if err != nil {
			return nil, fmt.Errorf("-sizes: %w", err)
		}
		all = append(all, n)
	}
	return all, nil
}
