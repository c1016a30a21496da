// Package webhooks answers the API server's admission requests for pods. It is thin: the entitlement package decides,
// and here requests are decoded, licences and grants looked up, and answers put into words. The validating webhook is
// the enforcement; the mutating one is the convenience that brings the scheduling gate into pods under a licence, and the
// key volume into entitled ones.
package webhooks

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"modelrights.dev/modelrights/internal/entitlement"
)

const (
	// mutatePodsPath precedes the secret part of the mutating webhook's path: rules pods CREATE, reinvocationPolicy
	// IfNeeded, sideEffects NoneOnDryRun.
	mutatePodsPath = "/mutate-pods/"

	// validatePodsPath precedes the secret part of the validating webhook's path: rules pods CREATE and UPDATE,
	// pods/ephemeralcontainers UPDATE, pods/resize UPDATE, sideEffects NoneOnDryRun.
	validatePodsPath = "/validate-pods/"

	// minSecret is the least length of the secret part, in characters.
	minSecret = 32

	// DefaultLookupTimeout bounds the live reads of one request. It is shorter than the webhooks' timeoutSeconds of 3, so
	// that the user reads why the pod was denied rather than that a deadline passed.
	DefaultLookupTimeout = 2 * time.Second
)

// MutatePodsPath is where the mutating webhook is served, given the secret part of the path.
func MutatePodsPath(secret string) string { return mutatePodsPath + secret }

// ValidatePodsPath is where the validating webhook is served, given the secret part of the path.
func ValidatePodsPath(secret string) string { return validatePodsPath + secret }

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

// Options are what the handlers need.
type Options struct {
	// PathSecret is the part of the paths that only the API server knows, by its webhook configurations: at least 32
	// characters. Whoever else reaches the port can have nothing decided, logged or looked up. Required.
	PathSecret string
	// Rights knows licences, grants and namespaces. Required.
	Rights Rights
	// OperatorUser is the user name of the operator's account, system:serviceaccount:NAMESPACE:NAME, which alone removes the
	// scheduling gate of pods that wait. Required.
	OperatorUser string
	// Seats knows who holds seats. Optional: without it, nothing is refused for want of room; pods wait instead.
	Seats Seats
	// Denials is told of every denial that is not of a dry run. Required.
	Denials Denials
	// Clock tells the time at which is decided. Optional, default the real one.
	Clock clock.PassiveClock
	// Later is a later time that it may be already, which is not confirmed; false where there is none. What has ended by it is
	// refused. Optional.
	Later func() (time.Time, bool)
	// Metrics is where the metrics are registered. Optional: without it, they are counted nowhere.
	Metrics prometheus.Registerer
	// LookupTimeout bounds the live reads of one request. Optional, default DefaultLookupTimeout.
	LookupTimeout time.Duration
	// Workloads is what is to be known of workloads. Optional.
	Workloads WorkloadOptions
}

// Server is the part of controller-runtime's webhook server that is needed here.
type Server interface {
	// Register makes the handler answer requests to the path.
	Register(path string, hook http.Handler)
}

// Register makes the server answer all webhooks. The error says which of the options is missing, or that the metrics
// are registered already.
func Register(server Server, o Options) error {
	if len(o.PathSecret) < minSecret {
		return fmt.Errorf("webhooks need a PathSecret of at least %d characters", minSecret)
	}
	d, err := newDecider(o)
	if err != nil {
		return err
	}
	room := newAdmittance()
	server.Register(mutatePodsPath, knowing(o.PathSecret, mutatePodsPath, room.guard(hook(&podMutator{d}))))
	server.Register(validatePodsPath, knowing(o.PathSecret, validatePodsPath, room.guard(hook(&podValidator{d}))))
	server.Register(validateWorkloadsPath, knowing(o.PathSecret, validateWorkloadsPath, newWorkloadAdmittance().guard(hook(newWorkloadValidator(d, o.Workloads)))))
	return nil
}

// knowing lets through who knows the secret part of the path. The server knows the part before it alone, since it writes
// paths into its log and its metrics.
func knowing(secret, prefix string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		given := strings.TrimPrefix(req.URL.Path, prefix)
		if subtle.ConstantTimeCompare([]byte(given), []byte(secret)) != 1 {
			http.NotFound(w, req)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// hook answers a panic with a denial: the process lives on, and the pod, not decided, stays out.
func hook(h admission.Handler) *admission.Webhook {
	return &admission.Webhook{Handler: h, RecoverPanic: ptr.To(true)}
}

func newDecider(o Options) (*decider, error) {
	if o.Rights == nil || o.Denials == nil || o.OperatorUser == "" {
		return nil, errors.New("webhooks need Rights, Denials and OperatorUser")
	}
	d := &decider{rights: o.Rights, seats: o.Seats, operator: o.OperatorUser, denials: o.Denials, clock: o.Clock, later: o.Later, timeout: o.LookupTimeout, metrics: newMetrics()}
	if d.clock == nil {
		d.clock = clock.RealClock{}
	}
	if d.later == nil {
		d.later = func() (time.Time, bool) { return time.Time{}, false }
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
