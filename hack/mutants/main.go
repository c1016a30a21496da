// Command mutants takes guards out of the code, one at a time, and sees that the tests which prove them go red. It reads
// a list of mutants; the tree itself is never written, since the go command compiles the changed file from an overlay.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	list := flag.String("list", "hack/mutants/mutants.yaml", "the list of mutants")
	only := flag.String("only", "", "run only the mutants whose name holds this text")
	part := flag.String("shard", "", "run only this part of them, for example 2/8: the second of eight, which together are all")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	all, err := readList(*list)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	selected, err := selectFrom(all, *only, *part)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	if !runAll(ctx, os.Stdout, all, selected, (&runner{dir: ".", clean: map[string]error{}}).run) {
		os.Exit(1)
	}
}

// runAll runs those that are selected, says what became of each, and of how many nothing is known. It returns whether all
// that are selected were run and were red.
func runAll(ctx context.Context, out io.Writer, all, selected []mutant, run func(context.Context, mutant) error) bool {
	fmt.Fprintf(out, "mutants: %d of %d are selected\n", len(selected), len(all))
	red := 0
	var wrong, missing []string
	for _, m := range selected {
		start := time.Now()
		verdict := "red, as it must be"
		err := context.Cause(ctx)
		if err == nil {
			err = run(ctx, m)
		}
		switch {
		case ctx.Err() != nil:
			verdict = "not run: " + context.Cause(ctx).Error()
			missing = append(missing, m.Name)
		case err != nil:
			verdict = "WRONG: " + err.Error()
			wrong = append(wrong, m.Name)
		default:
			red++
		}
		fmt.Fprintf(out, "%-40s %5.1fs  %s\n", m.Name, time.Since(start).Seconds(), verdict)
	}
	if len(wrong) > 0 {
		fmt.Fprintf(out, "wrong: %s\n", strings.Join(wrong, ", "))
	}
	fmt.Fprintf(out, "mutants: %d passed, %d failed, %d not run, %d not selected\n", red, len(wrong), len(missing), len(all)-len(selected))
	return red > 0 && red == len(selected)
}
