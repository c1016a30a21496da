package gauge

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// Processes are those whose share of the machine's CPUs is told apart: their IDs, by what tables call them.
type Processes map[string]int

// Reading is what each of them had used of CPUs at one moment.
type Reading struct {
	usage Usage
	by    map[string]time.Duration
}

// Take reads it, now.
func (p Processes) Take() (Reading, error) {
	r := Reading{by: map[string]time.Duration{}}
	var err error
	for name, pid := range p {
		if r.by[name], err = CPUTime(pid); err != nil {
			return Reading{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	r.usage, err = TakeUsage()
	return r, err
}

// Split is where CPUs went over some time: how many each process kept busy on average.
type Split struct {
	Seconds float64            `json:"seconds"`
	By      map[string]float64 `json:"by"`
	// Foreign are those that others kept busy, who have no part in the benchmark.
	Foreign float64 `json:"foreign"`
}

// Since is what was used after an earlier reading of the same processes.
func (r Reading) Since(before Reading) Split {
	took := r.usage.At.Sub(before.usage.At)
	s := Split{Seconds: took.Seconds(), By: map[string]float64{}, Foreign: r.usage.ForeignSince(before.usage)}
	for name, used := range r.by {
		s.By[name] = float64(used-before.by[name]) / float64(took)
	}
	return s
}

// Busy is how many CPUs were busy in all.
func (s Split) Busy() float64 {
	sum := s.Foreign
	for _, one := range slices.Sorted(maps.Keys(s.By)) {
		sum += s.By[one]
	}
	return sum
}

// Per is how many milliseconds of CPU a process used for each of n pods or requests.
func (s Split) Per(name string, n int) float64 {
	return s.By[name] * s.Seconds * 1e3 / float64(max(1, n))
}

// Child is the process of that name which this one has started. The kernel keeps 15 letters of a name.
func Child(name string) (int, error) {
	pids, err := children()
	if err != nil {
		return 0, err
	}
	var found []int
	for _, pid := range pids {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil && string(bytes.TrimSpace(comm)) == name[:min(15, len(name))] {
			found = append(found, pid)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, errors.New("no process " + name + " runs")
	default:
		return 0, fmt.Errorf("%d processes are called %s: %s", len(found), name, strings.Trim(fmt.Sprint(found), "[]"))
	}
}
