package servingcert

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

const (
	// checkInterval is how often the authority looks, and so how soon it notices that the clock has jumped: timers do not.
	checkInterval = 30 * time.Second
	// What the schedule does not foresee is done at most this often: replicas whose clocks disagree by years would
	// otherwise replace each other's certificates without end.
	urgentInterval = 5 * time.Minute
	urgentBurst    = 5
	// writeAttempts is how often a write is tried again at once that another replica was faster with.
	writeAttempts = 3
)

// AuthorityOptions are what an Authority needs.
type AuthorityOptions struct {
	Policy Policy
	// Reader reads the Secret, live.
	Reader client.Reader
	// Writer creates and updates it.
	Writer client.Writer
	// Keeper tells when the Secret is touched.
	Keeper *Keeper
	// Published says whether everybody who must trust the CA has been told to, in the objects of the API. It is asked
	// while a CA is staged.
	Published func(ctx context.Context, ca *x509.Certificate) (bool, error)
	Clock     clock.WithTicker
	Log       logr.Logger
	// Metrics may be nil.
	Metrics *Metrics
}

// Authority makes and renews the operator's own CA and serving certificate in the Secret. Every replica runs one: whoever
// writes first wins, by the Secret's resource version.
type Authority struct {
	options AuthorityOptions
	urgent  *rate.Limiter
	wake    chan struct{}

	mu       sync.Mutex
	former   []TrustedCA
	trouble  string
	withheld bool
	waiting  bool
}

var (
	_ manager.Runnable               = (*Authority)(nil)
	_ manager.LeaderElectionRunnable = (*Authority)(nil)
)

// NewAuthority returns an authority that is not started.
func NewAuthority(options AuthorityOptions) *Authority {
	a := &Authority{
		options: options,
		urgent:  rate.NewLimiter(rate.Every(urgentInterval), urgentBurst),
		wake:    make(chan struct{}, 1),
	}
	options.Keeper.onTouched(func() {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	})
	return a
}

// NeedLeaderElection is false: a certificate is needed before there is a leader.
func (a *Authority) NeedLeaderElection() bool { return false }

// Start keeps the Secret as it should be until the context ends.
func (a *Authority) Start(ctx context.Context) error {
	ticker := a.options.Clock.NewTicker(checkInterval)
	defer ticker.Stop()
	for {
		if err := a.Ensure(ctx); err != nil && ctx.Err() == nil {
			a.options.Log.Error(err, "cannot keep the serving certificate; trying again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		case <-a.wake:
		}
	}
}

// Ensure looks once, and writes the Secret where it is not as it should be.
func (a *Authority) Ensure(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	for range writeAttempts {
		if err = a.ensure(ctx); !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return err
}

func (a *Authority) ensure(ctx context.Context) error {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: a.options.Policy.Names.Namespace, Name: SecretName}
	err := a.options.Reader.Get(ctx, key, secret)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading the Secret %s of the serving certificate: %w", key, err)
	}
	missing := err != nil
	state, err := parseState(secret.Data)
	a.tell(err)
	now := a.options.Clock.Now()
	next, steps, err := Plan(state, Seen{Next: a.publication(ctx, state), Former: a.former}, a.options.Policy, now)
	if err != nil {
		return fmt.Errorf("planning the serving certificate: %w", err)
	}
	if len(steps) == 0 {
		a.former = state.Trusted
		return nil
	}
	if !a.mayAct(steps, now) {
		return nil
	}
	if err := a.write(ctx, key, secret, missing, next); err != nil {
		return err
	}
	a.former = next.Trusted
	a.record(steps)
	return nil
}

// tell logs what cannot be used of the Secret, once.
func (a *Authority) tell(err error) {
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	if trouble != "" && trouble != a.trouble {
		a.options.Log.Error(err, "the Secret of the serving certificate is damaged; putting it right")
	}
	a.trouble = trouble
}

// publication asks only while a CA is staged.
func (a *Authority) publication(ctx context.Context, state State) Publication {
	if state.Next == nil {
		a.waiting = false
		return PublicationUnknown
	}
	published, err := a.options.Published(ctx, state.Next.Certificate)
	switch {
	case err != nil:
		a.options.Log.Error(err, "cannot see whether the next CA is published")
		return PublicationUnknown
	case published:
		a.waiting = false
		return Published
	default:
		if !a.waiting {
			a.options.Log.Info("the next CA waits until every webhook configuration and the node driver's ConfigMap hold it",
				"subject", state.Next.Certificate.Subject.String())
		}
		a.waiting = true
		return Unpublished
	}
}

// mayAct bounds how often the unforeseen is done.
func (a *Authority) mayAct(steps []Step, now time.Time) bool {
	for _, step := range steps {
		if !step.Urgent {
			continue
		}
		allowed := a.urgent.AllowN(now, 1)
		if !allowed && !a.withheld {
			a.options.Log.Info("the serving certificate was replaced too often; waiting. Do the replicas' clocks agree?", "wouldHave", step.Message)
		}
		a.withheld = !allowed
		return allowed
	}
	return true
}

// write stores the state. An error that another replica was faster is returned as it is.
func (a *Authority) write(ctx context.Context, key client.ObjectKey, secret *corev1.Secret, missing bool, state State) error {
	data, err := state.data()
	if err != nil {
		return err
	}
	secret.Data = data
	if !missing {
		err = a.options.Writer.Update(ctx, secret)
	} else {
		secret.ObjectMeta = metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}
		secret.Type = corev1.SecretTypeTLS
		err = a.options.Writer.Create(ctx, secret)
	}
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("writing the Secret %s of the serving certificate: %w", key, err)
	}
	return err
}

func (a *Authority) record(steps []Step) {
	for _, step := range steps {
		a.options.Log.Info("certificate step", "step", step.Message, "certificate", step.Certificate,
			"subject", step.Subject, "notAfter", step.NotAfter.UTC().Format(time.RFC3339), "urgent", step.Urgent)
		if step.Made {
			a.options.Metrics.rotated(step.Certificate)
		}
	}
}
