// Command node measures on a real node, with a real kubelet: how much later a pod has its key than the same pod a Secret,
// and how long it takes from the deletion of a grant until the keys of its pods are wiped. The node must be this machine.
// `make bench-node` starts a cluster for it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
)

// Aims, in milliseconds.
const (
	// aimKeyLater is by how much later than a Secret a key may be mounted, at the median.
	aimKeyLater = 150
	// aimWiped is the 99th percentile of the time from a grant's deletion to the wiped key.
	aimWiped = 2000
)

// options say what is measured, and where.
type options struct {
	registry, tag, kubeletDir, helm, out string
	// pairs is how many pods of each kind are started; rounds how often a grant is deleted under so many pods.
	pairs, rounds, pods int
}

func main() {
	var o options
	flag.StringVar(&o.registry, "registry", os.Getenv("REGISTRY"), "`host/prefix` that images are pushed to and pulled from (REGISTRY)")
	flag.StringVar(&o.tag, "tag", "dev", "`tag` of the images of operator and node driver")
	flag.StringVar(&o.kubeletDir, "kubelet-dir", os.Getenv("KUBELET_DIR"), "kubelet's root `directory` on this machine (KUBELET_DIR)")
	flag.StringVar(&o.helm, "helm", "_output/bin/helm", "`program`")
	flag.StringVar(&o.out, "out", "_output/bench", "`directory` of the results")
	flag.IntVar(&o.pairs, "pairs", 40, "pods with a key, and as many with a Secret")
	flag.IntVar(&o.rounds, "rounds", 10, "how often a grant is deleted")
	flag.IntVar(&o.pods, "pods", 20, "pods that run under a grant when it is deleted")
	atMost := flag.Duration("timeout", 20*time.Minute, "how long it may take")
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, *atMost)
	err := run(ctx, o)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

func (o options) check() error {
	if o.registry == "" || o.kubeletDir == "" || os.Getenv("KUBECONFIG") == "" {
		return errors.New("KUBECONFIG, REGISTRY and KUBELET_DIR must be set: run `make bench-node`")
	}
	if o.pairs < 1 || o.rounds < 1 || o.pods < 1 || o.pods > 50 {
		return errors.New("-pairs and -rounds must be 1 at least, -pods 1 to 50")
	}
	return nil
}

// report is what a run measured, in milliseconds.
type report struct {
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Load    string    `json:"loadBefore"`
	// Key and Secret are from the call that creates a pod until its file is on the node; Later is by how much later the key
	// of each pair was.
	Key    percentiles `json:"keyMounted"`
	Secret percentiles `json:"secretMounted"`
	Later  percentiles `json:"keyLaterThanSecret"`
	// Wiped is from the call that deletes a grant until a key is empty, or gone from the node.
	Wiped percentiles `json:"wiped"`
	Aims  []aim       `json:"aims"`
}

type aim struct {
	What     string  `json:"what"`
	Aim      float64 `json:"aim"`
	Measured float64 `json:"measured"`
	Met      bool    `json:"met"`
}

func run(ctx context.Context, o options) error {
	if err := o.check(); err != nil {
		return err
	}
	r := report{Started: time.Now().UTC(), Load: loadAverages()}
	w, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	mounts, err := w.mounted(ctx, o.pairs)
	if err != nil {
		return fmt.Errorf("measuring mounts: %w", err)
	}
	wiped, err := w.wiped(ctx, o.rounds, o.pods)
	if err != nil {
		return fmt.Errorf("measuring revocation: %w", err)
	}
	r.Key, r.Secret, r.Later, r.Wiped = percentilesOf(mounts.key), percentilesOf(mounts.secret), percentilesOf(mounts.later), percentilesOf(wiped)
	r.Aims = []aim{
		{"key later than Secret, p50 (ms)", aimKeyLater, r.Later.P50, r.Later.P50 <= aimKeyLater},
		{"grant deleted to key wiped, p99 (ms)", aimWiped, r.Wiped.P99, r.Wiped.P99 <= aimWiped},
	}
	r.Seconds = time.Since(r.Started).Seconds()
	return r.write(o.out)
}

func (r report) write(dir string) error {
	encoded, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the results: %w", err)
	}
	file := filepath.Join(dir, "node.json")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(file, append(encoded, '\n'), 0o644)); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	fmt.Printf("%-42s %8s %8s %8s %6s\n", "milliseconds", "p50", "p99", "max", "n")
	for _, row := range []struct {
		name string
		p    percentiles
	}{
		{"pod created to key on the node", r.Key}, {"pod created to Secret on the node", r.Secret},
		{"key later than the Secret of its pair", r.Later}, {"grant deleted to key wiped", r.Wiped},
	} {
		fmt.Printf("%-42s %8.0f %8.0f %8.0f %6d\n", row.name, row.p.P50, row.p.P99, row.p.Max, row.p.N)
	}
	for _, a := range r.Aims {
		verdict := "missed"
		if a.Met {
			verdict = "met"
		}
		fmt.Printf("%-42s aim %6.0f  measured %6.0f  %s\n", a.What, a.Aim, a.Measured, verdict)
	}
	fmt.Println("wrote", file)
	return nil
}
