// Package webhooks answers the API server's admission requests for pods. It is thin: the entitlement package decides,
// and here requests are decoded, licences and grants looked up, and answers put into words. The validating webhook is
// the enforcement; the mutating one is the convenience that brings the key volume into entitled pods.
package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"modelrights.dev/modelrights/internal/entitlement"
)

const (
	// MutatePodsPath is where the webhook server serves the mutating webhook: rules pods CREATE, reinvocationPolicy
	// IfNeeded, sideEffects NoneOnDryRun.
	MutatePodsPath = "/mutate-pods"

	// ValidatePodsPath is where the webhook server serves the validating webhook: rules pods CREATE and UPDATE,
	// pods/ephemeralcontainers UPDATE, pods/resize UPDATE, sideEffects NoneOnDryRun.
	ValidatePodsPath = "/validate-pods"

	// DefaultLookupTimeout bounds the live reads of one request. It is shorter than the webhooks' timeoutSeconds of 3, so
	// that the user reads why the pod was denied rather than that a deadline passed.
	DefaultLookupTimeout = 2 * time.Second
)

// Rights knows the licences, grants and namespaces of the cluster.
type Rights interface {
	// Snapshot returns what is known now from memory, and whether it is complete.
	Snapshot() (s *entitlement.Snapshot, synced bool)
	// Live returns the snapshot with the namespace's grants, and the licences they name, as the API server has them now.
	// An error means that nothing can be said, and denies a governed pod.
	Live(ctx context.Context, namespace string) (*entitlement.Snapshot, error)
	// NamespaceLabels returns the labels of a namespace, from memory or, if live, from the API server.
	NamespaceLabels(ctx context.Context, namespace string, live bool) (map[string]string, error)
}

// Options are what both handlers need.
type Options struct {
	// Rights knows licences, grants and namespaces. Required.
	Rights Rights
	// Denials is told of every denial that is not of a dry run. Required.
	Denials Denials
	// Clock tells the time at which is decided. Optional, default the real one.
	Clock clock.PassiveClock
	// Metrics is where the metrics are registered. Optional: without it, they are counted nowhere.
	Metrics prometheus.Registerer
	// LookupTimeout bounds the live reads of one request. Optional, default DefaultLookupTimeout.
	LookupTimeout time.Duration
}

// Server is the part of controller-runtime's webhook server that is needed here.
type Server interface {
	// Register makes the handler answer requests to the path.
	Register(path string, hook http.Handler)
}

// Register makes the server answer both webhooks. The error says which of the options is missing, or that the metrics
// are registered already.
func Register(server Server, o Options) error {
	d, err := newDecider(o)
	if err != nil {
		return err
	}
	server.Register(MutatePodsPath, hook(&podMutator{d}))
	server.Register(ValidatePodsPath, hook(&podValidator{d}))
	return nil
}

// hook answers a panic with a denial: the process lives on, and the pod, not decided, stays out.
func hook(h admission.Handler) *admission.Webhook {
	return &admission.Webhook{Handler: h, RecoverPanic: ptr.To(true)}
}

func newDecider(o Options) (*decider, error) {
	if o.Rights == nil || o.Denials == nil {
		return nil, errors.New("webhooks need Rights and Denials")
	}
	d := &decider{rights: o.Rights, denials: o.Denials, clock: o.Clock, timeout: o.LookupTimeout, metrics: newMetrics()}
	if d.clock == nil {
		d.clock = clock.RealClock{}
	}
	if d.timeout <= 0 {
		d.timeout = DefaultLookupTimeout
	}
	if o.Metrics != nil {
		if err := d.metrics.register(o.Metrics); err != nil {
			return nil, fmt.Errorf("registering the metrics of the webhooks: %w", err)
		}
	}
	return d, nil
}
