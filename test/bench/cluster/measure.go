package cluster

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"modelrights.dev/modelrights/test/bench/gauge"
)

// HostOf is the address of an API server as a URL, without a slash at the end.
func HostOf(config *rest.Config) string {
	return "https://" + strings.TrimSuffix(strings.TrimPrefix(config.Host, "https://"), "/")
}

// Describe says where it is measured; load are the load averages before anything was started.
func (p *ControlPlane) Describe(load string) (gauge.Machine, error) {
	m := gauge.Machine{GOOS: runtime.GOOS, GOARCH: runtime.GOARCH, CPUs: runtime.NumCPU(), CPU: "CPU", Go: runtime.Version(), LoadBefore: load}
	client, err := discovery.NewDiscoveryClientForConfig(p.Config)
	if err != nil {
		return gauge.Machine{}, err
	}
	version, err := client.ServerVersion()
	if err != nil {
		return gauge.Machine{}, fmt.Errorf("version of the API server: %w", err)
	}
	m.Kubernetes = version.GitVersion
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return gauge.Machine{}, err
	}
	m.Kernel = unix.ByteSliceToString(name.Release[:])
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return gauge.Machine{}, err
	}
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m, nil
}

// Memory is the operator's, now.
func (o *Operator) Memory(ctx context.Context) (gauge.MemoryReport, error) {
	m, err := gauge.MemoryOf(o.PID())
	if err != nil {
		return gauge.MemoryReport{}, err
	}
	metrics, err := o.Scrape(ctx)
	if err != nil {
		return gauge.MemoryReport{}, err
	}
	const mib = 1 << 20
	return gauge.MemoryReport{
		RSS: float64(m.RSS) / mib, PeakRSS: float64(m.PeakRSS) / mib, PSS: float64(m.PSS) / mib,
		HeapLive: metrics.Value("go_memstats_heap_inuse_bytes", nil) / mib,
	}, nil
}

// Settle waits until the operator has nothing to do: its queues are empty, and twice in a row it used less than a tenth
// of a CPU over the interval.
func (o *Operator) Settle(ctx context.Context, interval, atMost time.Duration) error {
	deadline := time.Now().Add(atMost)
	for quiet := 0; quiet < 2; {
		before, err := gauge.CPUTime(o.PID())
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(interval):
		}
		after, err := gauge.CPUTime(o.PID())
		if err != nil {
			return err
		}
		metrics, err := o.Scrape(ctx)
		if err != nil {
			return err
		}
		waiting := metrics.Value("workqueue_depth", nil) + metrics.Value("modelrights_audit_queue_length", nil)
		switch {
		case waiting == 0 && after-before < interval/10:
			quiet++
		case time.Now().After(deadline):
			return fmt.Errorf("the operator has not come to rest in %v: %v objects and entries wait, and it used %v in the last %v", atMost, waiting, after-before, interval)
		default:
			quiet = 0
		}
	}
	return nil
}

// Profile is what the operator answers to a question of net/http/pprof, for example heap?gc=1.
func (o *Operator) Profile(ctx context.Context, query string) ([]byte, error) {
	content, err := Get(ctx, o.http, o.pprof+query)
	if err != nil {
		return nil, fmt.Errorf("profile of the operator: %w", err)
	}
	return []byte(content), nil
}
