package servingcert

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

var secretKey = client.ObjectKey{Namespace: namespace, Name: SecretName}

func newTestAuthority(c client.Client, clock *testclock.FakeClock, log logr.Logger) *Authority {
	return NewAuthority(AuthorityOptions{
		Policy: testPolicy, Reader: c, Writer: c, Keeper: newTestKeeper(clock), Clock: clock, Log: log,
		Published: func(context.Context, *x509.Certificate) (bool, error) { return true, nil },
	})
}

func read(t *testing.T, c client.Client) (*corev1.Secret, State) {
	t.Helper()
	var secret corev1.Secret
	if err := c.Get(t.Context(), secretKey, &secret); err != nil {
		t.Fatal(err)
	}
	state, err := parseState(secret.Data)
	if err != nil {
		t.Fatal(err)
	}
	return &secret, state
}

func ensure(t *testing.T, a *Authority) {
	t.Helper()
	if err := a.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestReplicas: of replicas that look at the same time one wins, and the others take what it wrote.
func TestReplicas(t *testing.T) {
	var writes sync.Map
	c := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			err := c.Create(ctx, o, options...)
			if err == nil {
				writes.Store(o.GetResourceVersion(), true)
			}
			return err
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.UpdateOption) error {
			err := c.Update(ctx, o, options...)
			if err == nil {
				writes.Store(o.GetResourceVersion(), true)
			}
			return err
		},
	}).Build()
	clock := testclock.NewFakeClock(start)
	replicas := make([]*Authority, 5)
	for i := range replicas {
		replicas[i] = newTestAuthority(c, clock, logr.Discard())
	}
	together := func(what string, want int) {
		t.Helper()
		writes.Clear()
		var group sync.WaitGroup
		for _, replica := range replicas {
			group.Go(func() {
				if err := replica.Ensure(t.Context()); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		group.Wait()
		count := 0
		writes.Range(func(any, any) bool { count++; return true })
		if _, state := read(t, c); !state.serves(clock.Now()) || count != want {
			t.Errorf("%s: %d writes, want %d", what, count, want)
		}
	}
	together("install", 1)
	together("nothing to do", 0)
	clock.Step(61 * day)
	together("renewal", 1)
	clock.SetTime(start.Add(testPolicy.CALifetime - testPolicy.CARenewBefore + time.Hour))
	together("staging", 2) // and the record of the publication
	clock.Step(testPolicy.Propagation)
	together("exchange", 1)
	clock.Step(40 * 365 * day)
	together("everything is over", 1)
}

// TestWhatIsLogged: rotations are logged and counted; keys are in no line.
func TestWhatIsLogged(t *testing.T) {
	var lines strings.Builder
	log := funcr.New(func(prefix, args string) { lines.WriteString(prefix + args + "\n") }, funcr.Options{Verbosity: 10})
	c := fake.NewClientBuilder().Build()
	clock := testclock.NewFakeClock(start)
	a := newTestAuthority(c, clock, log)
	registry := prometheus.NewRegistry()
	m, err := NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	a.options.Metrics = m
	ensure(t, a)
	secret, _ := read(t, c)
	secret.Data[CertKey], secret.Data[caPrivateKeyKey] = []byte("garbage"), secret.Data[caPrivateKeyKey][:40]
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	ensure(t, a)
	ensure(t, a)
	_, state := read(t, c)
	for _, want := range []string{"made a new serving certificate", "is damaged", CertKey, caPrivateKeyKey} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("no line says %q", want)
		}
	}
	for _, block := range [][]byte{encode(t, state)[PrivateKeyKey], encode(t, state)[caPrivateKeyKey], secret.Data[PrivateKeyKey]} {
		for _, line := range bytes.Split(bytes.TrimSpace(block), []byte("\n"))[1:] {
			if len(line) > 20 && strings.Contains(lines.String(), string(line)) {
				t.Error("a line holds a key")
			}
		}
	}
	if got := value(t, registry, "modelrights_certificate_rotations_total", certificateCA); got != 2 {
		t.Errorf("counted %v CAs", got)
	}
	if got := value(t, registry, "modelrights_certificate_rotations_total", certificateLeaf); got != 2 {
		t.Errorf("counted %v leaves", got)
	}
}

// TestClocksThatDisagree: two replicas, one of whose clocks is decades ahead, do not replace each other's certificates
// without end.
func TestClocksThatDisagree(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	right, ahead := testclock.NewFakeClock(start), testclock.NewFakeClock(start.Add(30*365*day))
	a, b := newTestAuthority(c, right, logr.Discard()), newTestAuthority(c, ahead, logr.Discard())
	versions := map[string]bool{}
	for range 100 {
		for _, replica := range []*Authority{a, b} {
			ensure(t, replica)
			secret, _ := read(t, c)
			versions[secret.ResourceVersion] = true
		}
		right.Step(time.Second)
		ahead.Step(time.Second)
	}
	if len(versions) > 2*urgentBurst+2 {
		t.Errorf("the Secret was written %d times in 100 seconds", len(versions))
	}
	if secret, _ := read(t, c); len(parseCertificates(secret.Data[CACertKey])) > maxTrusted+2 {
		t.Error("the bundle grows")
	}
	// The clock is put right: so is the Secret, at the latest when the bound allows it.
	right.Step(urgentInterval)
	ensure(t, a)
	if _, state := read(t, c); !state.serves(right.Now()) {
		t.Error("not healed")
	}
}

// TestConsumersThatCannotBeSeen count as not told.
func TestConsumersThatCannotBeSeen(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	clock := testclock.NewFakeClock(start)
	a := newTestAuthority(c, clock, logr.Discard())
	asked := 0
	a.options.Published = func(context.Context, *x509.Certificate) (bool, error) {
		asked++
		return true, errors.New("the API server is away")
	}
	ensure(t, a)
	clock.SetTime(start.Add(testPolicy.CALifetime - testPolicy.CARenewBefore + time.Hour))
	for range 3 {
		ensure(t, a)
		clock.Step(testPolicy.Propagation)
	}
	if _, state := read(t, c); state.Next == nil || !state.NextPublished.IsZero() || asked != 2 {
		t.Errorf("asked %d times; published at %s", asked, state.NextPublished)
	}
}

// TestOthersEntries: what others keep in the Secret's metadata stays.
func TestOthersEntries(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	a := newTestAuthority(c, testclock.NewFakeClock(start), logr.Discard())
	ensure(t, a)
	secret, _ := read(t, c)
	secret.Labels, secret.Annotations = map[string]string{"team": "platform"}, map[string]string{"note": "ours"}
	delete(secret.Data, CertKey)
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	ensure(t, a)
	after, state := read(t, c)
	if !state.serves(start) || after.Labels["team"] != "platform" || after.Annotations["note"] != "ours" {
		t.Errorf("labels %v, annotations %v", after.Labels, after.Annotations)
	}
}

// TestStart: the authority acts at once when the Secret is deleted, and soon when the clock jumps.
func TestStart(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	clock := testclock.NewFakeClock(start)
	a := newTestAuthority(c, clock, logr.Discard())
	stopped := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { stopped <- a.Start(ctx) }()
	eventually := gomega.NewWithT(t)
	serves := func(what string) *corev1.Secret {
		t.Helper()
		var secret corev1.Secret
		eventually.Eventually(func() bool {
			if c.Get(t.Context(), secretKey, &secret) != nil {
				return false
			}
			state, err := parseState(secret.Data)
			return err == nil && state.serves(clock.Now())
		}).WithTimeout(time.Minute).Should(gomega.BeTrue(), what)
		return &secret
	}
	secret := serves("install")
	if err := c.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	a.options.Keeper.vanished(secret)
	serves("deletion")
	eventually.Eventually(clock.HasWaiters).WithTimeout(time.Minute).Should(gomega.BeTrue())
	clock.Step(50 * 365 * day)
	serves("the clock jumps over every expiry")
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
