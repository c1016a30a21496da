// Package gauge measures processes and requests, and says what was measured. Benchmarks share it.
package gauge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Machine is where it was measured.
type Machine struct {
	GOOS       string `json:"goos"`
	GOARCH     string `json:"goarch"`
	CPUs       int    `json:"cpus"`
	CPU        string `json:"cpu"`
	Go         string `json:"go"`
	Kernel     string `json:"kernel"`
	Kubernetes string `json:"kubernetes"`
	// LoadBefore are the load averages before anything was started.
	LoadBefore string `json:"loadBefore"`
}

// String is a line.
func (m *Machine) String() string {
	return fmt.Sprintf("%d × %s, %s/%s, Linux %s, %s, Kubernetes %s; load averages before: %s",
		m.CPUs, m.CPU, m.GOOS, m.GOARCH, m.Kernel, m.Go, m.Kubernetes, m.LoadBefore)
}

// MemoryReport is in MiB, but for the heap's bytes also in use.
type MemoryReport struct {
	RSS      float64 `json:"rssMiB"`
	PeakRSS  float64 `json:"peakRssMiB"`
	PSS      float64 `json:"pssMiB"`
	HeapLive float64 `json:"heapInUseMiB"`
}

// Latencies are in milliseconds.
type Latencies struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`
}

// LatenciesOf sums durations up; all are 0 where there are none.
func LatenciesOf(all []time.Duration) Latencies {
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	return Latencies{
		P50: Milliseconds(Percentile(all, 0.5)), P90: Milliseconds(Percentile(all, 0.9)), P99: Milliseconds(Percentile(all, 0.99)),
		Max: Milliseconds(Percentile(all, 1)), Mean: Milliseconds(sum) / float64(max(1, len(all))),
	}
}

// Milliseconds is a duration as a number.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Write puts a report into the files NAME.json and NAME.txt of a directory, and its tables on the terminal.
func Write(dir, name string, report any, tables func(io.Writer) error) error {
	encoded, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the results: %w", err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".json", append(encoded, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	text, err := os.Create(path + ".txt")
	if err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	if err := errors.Join(tables(text), text.Close(), tables(os.Stdout)); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	fmt.Println("wrote", path+".json", "and", path+".txt")
	return nil
}
