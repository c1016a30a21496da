package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Report is what a run of benchmarks measured, and where.
type Report struct {
	// GOOS, GOARCH, CPU and Go say where it was measured.
	GOOS   string `json:"goos,omitempty"`
	GOARCH string `json:"goarch,omitempty"`
	CPU    string `json:"cpu,omitempty"`
	Go     string `json:"go,omitempty"`
	// Results are in the order in which they were measured.
	Results []Result `json:"results"`
}

// Result is one benchmark's.
type Result struct {
	// Name is the benchmark's, without the word Benchmark and the number of CPUs.
	Name string `json:"name"`
	// CPUs is GOMAXPROCS.
	CPUs int `json:"cpus"`
	// Iterations is how often it ran.
	Iterations int64 `json:"iterations"`
	// Metrics are the figures by unit, for example ns/op, B/op and allocs/op.
	Metrics map[string]float64 `json:"metrics"`
}

// parse reads the text that go test -bench prints (https://golang.org/design/14313-benchmark-format). A benchmark that
// failed, or none at all, is an error.
func parse(text io.Reader) (*Report, error) {
	report := &Report{}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		line := lines.Text()
		key, value, isKey := strings.Cut(line, ": ")
		switch {
		case isKey && key == "goos":
			report.GOOS = value
		case isKey && key == "goarch":
			report.GOARCH = value
		case isKey && key == "cpu":
			report.CPU = value
		case strings.HasPrefix(line, "FAIL"), strings.HasPrefix(line, "--- FAIL"):
			return nil, fmt.Errorf("a benchmark failed: %s", line)
		case strings.HasPrefix(line, "Benchmark"):
			result, err := parseResult(line)
			if err != nil {
				return nil, fmt.Errorf("line %q: %w", line, err)
			}
			if result != nil {
				report.Results = append(report.Results, *result)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the benchmarks' output: %w", err)
	}
	if len(report.Results) == 0 {
		return nil, errors.New("no benchmark was run")
	}
	return report, nil
}

// parseResult reads a line of results, and returns nil for the name alone that go test -v prints.
func parseResult(line string) (*Result, error) {
	fields := strings.Fields(line)
	if len(fields) == 1 {
		return nil, nil
	}
	result := &Result{Name: strings.TrimPrefix(fields[0], "Benchmark"), CPUs: 1, Metrics: map[string]float64{}}
	if i := strings.LastIndexByte(result.Name, '-'); i >= 0 {
		if n, err := strconv.Atoi(result.Name[i+1:]); err == nil {
			result.Name, result.CPUs = result.Name[:i], n
		}
	}
	var err error
	if result.Iterations, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
		return nil, fmt.Errorf("iterations: %w", err)
	}
	if len(fields)%2 != 0 {
		return nil, errors.New("a figure without a unit")
	}
	for i := 2; i < len(fields); i += 2 {
		if result.Metrics[fields[i+1]], err = strconv.ParseFloat(fields[i], 64); err != nil {
			return nil, fmt.Errorf("%s: %w", fields[i+1], err)
		}
	}
	return result, nil
}

// split gives each top-level benchmark a report of its own.
func (r *Report) split() map[string]*Report {
	parts := map[string]*Report{}
	for _, result := range r.Results {
		name, _, _ := strings.Cut(result.Name, "/")
		if parts[name] == nil {
			part := *r
			part.Results = nil
			parts[name] = &part
		}
		parts[name].Results = append(parts[name].Results, result)
	}
	return parts
}
