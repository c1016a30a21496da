// Command report runs the benchmarks of test/bench and writes each one's results as JSON: one file for each top-level
// benchmark, named after it in lower case, for example decide.json.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const benchmarks = "modelrights.dev/modelrights/test/bench"

func main() {
	out := flag.String("out", "_output/bench", "directory that the JSON files are written to")
	pattern := flag.String("bench", ".", "regular expression of the benchmarks to run")
	input := flag.String("in", "", "file with the output of an earlier go test -bench, to be read instead of running it; - is standard input")
	flag.Parse()
	if err := run(*out, *pattern, *input); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(out, pattern, input string) error {
	text, err := measure(pattern, input)
	if err != nil {
		return err
	}
	report, err := parse(bytes.NewReader(text))
	if err != nil {
		return err
	}
	report.Go = runtime.Version()
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("creating the directory of the results: %w", err)
	}
	for name, part := range report.split() {
		encoded, err := json.MarshalIndent(part, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding the results of %s: %w", name, err)
		}
		path := filepath.Join(out, strings.ToLower(name)+".json")
		if err := os.WriteFile(path, append(encoded, '\n'), 0o644); err != nil {
			return fmt.Errorf("writing the results: %w", err)
		}
		fmt.Println("wrote", path)
	}
	return nil
}

// measure runs the benchmarks, showing what they print, or reads what they printed earlier.
func measure(pattern, input string) ([]byte, error) {
	switch input {
	case "":
	case "-":
		return io.ReadAll(os.Stdin)
	default:
		return os.ReadFile(input)
	}
	var text bytes.Buffer
	test := exec.Command("go", "test", "-run", "^$", "-bench", pattern, "-benchmem", benchmarks)
	test.Stdout, test.Stderr = io.MultiWriter(os.Stdout, &text), os.Stderr
	if err := test.Run(); err != nil {
		return nil, fmt.Errorf("running the benchmarks: %w", err)
	}
	return text.Bytes(), nil
}
