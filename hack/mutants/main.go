// Command mutants takes guards out of the code, one at a time, and sees that the tests which prove them go red. It reads
// a list of mutants; the tree itself is never written, since the go command compiles the changed file from an overlay.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	list := flag.String("list", "hack/mutants/mutants.yaml", "the list of mutants")
	only := flag.String("only", "", "run only the mutants whose name holds this text")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	mutants, err := readList(*list)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	red, wrong := 0, 0
	runner := &runner{dir: ".", clean: map[string]error{}}
	for _, m := range mutants {
		if !strings.Contains(m.Name, *only) || ctx.Err() != nil {
			continue
		}
		start := time.Now()
		verdict := "red, as it must be"
		if err := runner.run(ctx, m); err != nil {
			verdict = "WRONG: " + err.Error()
			wrong++
		} else {
			red++
		}
		fmt.Printf("%-40s %5.1fs  %s\n", m.Name, time.Since(start).Seconds(), verdict)
	}
	fmt.Printf("mutants: %d passed, %d failed\n", red, wrong)
	if wrong > 0 || red == 0 || ctx.Err() != nil {
		os.Exit(1)
	}
}
