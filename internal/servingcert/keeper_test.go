package servingcert

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	testclock "k8s.io/utils/clock/testing"
)

const namespace = "modelrights-system"

func secretOf(t *testing.T, state State) *corev1.Secret {
	t.Helper()
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: SecretName}, Data: encode(t, state)}
}

func newTestKeeper(clock *testclock.FakeClock) *Keeper {
	return NewKeeper(KeeperOptions{Policy: testPolicy, Clock: clock, Log: logr.Discard()})
}

func served(t *testing.T, k *Keeper) *tls.Certificate {
	t.Helper()
	certificate, err := k.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestKeeper(t *testing.T) {
	first := installed(t)
	renewed := first
	var err error
	if renewed.Leaf, err = newLeaf(first.Active, testPolicy, start); err != nil {
		t.Fatal(err)
	}
	elsewhere := testPolicy
	elsewhere.Names.Services = []string{"other"}
	misnamed := first
	if misnamed.Leaf, err = newLeaf(first.Active, elsewhere, start); err != nil {
		t.Fatal(err)
	}
	unrelated := installed(t)
	set := func(entry, text string) func(*corev1.Secret) {
		return func(s *corev1.Secret) { s.Data[entry] = []byte(text) }
	}
	tests := map[string]struct {
		offered State
		change  func(*corev1.Secret)
		taken   bool
	}{
		"a renewed certificate is served":                   {offered: renewed, taken: true},
		"another Secret is none of ours":                    {offered: renewed, change: func(s *corev1.Secret) { s.Name = "other" }},
		"another namespace is none of ours":                 {offered: renewed, change: func(s *corev1.Secret) { s.Namespace = "other" }},
		"an emptied Secret interrupts nothing":              {offered: renewed, change: func(s *corev1.Secret) { s.Data = nil }},
		"a certificate without its key is not taken":        {offered: renewed, change: set(PrivateKeyKey, "")},
		"a certificate that is garbage is not taken":        {offered: renewed, change: set(CertKey, "garbage")},
		"a Secret that lost its certificate is waited for":  {offered: renewed, change: set(CertKey, "")},
		"a bundle that is garbage changes no trust":         {offered: renewed, change: set(CACertKey, "garbage"), taken: true},
		"a certificate for other names is not taken":        {offered: misnamed},
		"a CA that was exchanged without notice must wait":  {offered: recalled(t, first, unrelated)},
		"a CA that nobody trusts any more is worth nothing": {offered: unrelated, taken: true},
		"a leaf that no CA of the bundle signed is no gain": {offered: State{Trusted: first.Trusted, Leaf: unrelated.Leaf}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			k := newTestKeeper(testclock.NewFakeClock(start.Add(time.Minute)))
			if k.Ready(nil) == nil || k.CABundle() != nil || k.Verifies(nil) == nil {
				t.Fatal("ready before there is a certificate")
			}
			k.observe(secretOf(t, first))
			if err := k.Ready(nil); err != nil {
				t.Fatal(err)
			}
			secret := secretOf(t, tc.offered)
			if tc.change != nil {
				tc.change(secret)
			}
			k.observe(secret)
			if err := k.Ready(nil); err != nil {
				t.Fatal(err)
			}
			if taken := served(t, k).Leaf.Equal(tc.offered.Leaf.Leaf); taken != tc.taken {
				t.Errorf("takes it over: %t", taken)
			}
			if !tc.taken && !served(t, k).Leaf.Equal(first.Leaf.Leaf) {
				t.Error("serves something else")
			}
			if err := k.Verifies(k.CABundle()); err != nil {
				t.Errorf("its own bundle does not verify what it serves: %v", err)
			}
		})
	}
}

// recalled is the new state with the former CA in its bundle.
func recalled(t *testing.T, former, next State) State {
	t.Helper()
	next, _ = plan(t, next, Seen{Former: former.Trusted}, start)
	return next
}

// TestHeldBack: after an exchange without notice the former certificate is served for the propagation time, unless it
// stops being of use before.
func TestHeldBack(t *testing.T) {
	first := installed(t)
	second := recalled(t, first, installed(t))
	short := first
	policy := testPolicy
	policy.LeafLifetime = 30 * time.Minute
	var err error
	if short.Leaf, err = newLeaf(first.Active, policy, start); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		first State
		until time.Duration
	}{
		"for the propagation time":   {first, testPolicy.Propagation},
		"until the former one ended": {short, 30*time.Minute + time.Second},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			clock := testclock.NewFakeClock(start)
			k := newTestKeeper(clock)
			changes := 0
			k.OnChange(func() { changes++ })
			k.observe(secretOf(t, tc.first))
			k.observe(secretOf(t, second))
			clock.SetTime(start.Add(tc.until - 10*time.Second))
			if !served(t, k).Leaf.Equal(tc.first.Leaf.Leaf) {
				t.Error("the new one is served before its CA is known")
			}
			before := changes
			clock.SetTime(start.Add(tc.until + recheck))
			if !served(t, k).Leaf.Equal(second.Leaf.Leaf) {
				t.Error("the former one is served for ever")
			}
			if changes != before+1 {
				t.Errorf("%d notifications of the new one", changes-before)
			}
		})
	}
	t.Run("a replica that has nothing else serves the new one", func(t *testing.T) {
		k := newTestKeeper(testclock.NewFakeClock(start))
		k.observe(secretOf(t, second))
		if !served(t, k).Leaf.Equal(second.Leaf.Leaf) {
			t.Error("serves nothing")
		}
	})
	t.Run("a CA that was announced needs no wait", func(t *testing.T) {
		state, ready := staged(t)
		clock := testclock.NewFakeClock(ready.Add(-testPolicy.Propagation - time.Hour))
		k := newTestKeeper(clock)
		before := state
		before.Trusted = before.Trusted[1:]
		k.observe(secretOf(t, before))
		clock.SetTime(ready.Add(-testPolicy.Propagation))
		k.observe(secretOf(t, state))
		clock.SetTime(ready)
		next, _ := plan(t, state, Seen{Next: Published}, ready)
		k.observe(secretOf(t, next))
		if !served(t, k).Leaf.Equal(next.Leaf.Leaf) {
			t.Error("holds it back")
		}
	})
	t.Run("certificates of a clock that is ahead are not served while the former one is good", func(t *testing.T) {
		k := newTestKeeper(testclock.NewFakeClock(start))
		k.observe(secretOf(t, first))
		ahead, _ := plan(t, State{}, Seen{}, start.Add(20*365*day))
		k.observe(secretOf(t, ahead))
		if !served(t, k).Leaf.Equal(first.Leaf.Leaf) {
			t.Error("serves a certificate that is not valid yet")
		}
	})
}

func TestReadyAndVerifies(t *testing.T) {
	first, other := installed(t), installed(t)
	clock := testclock.NewFakeClock(start)
	k := newTestKeeper(clock)
	k.observe(secretOf(t, first))
	both := append(encodeCertificates(other.certificates()...), encodeCertificates(first.certificates()...)...)
	for name, test := range map[string]struct {
		bundle []byte
		trusts bool
	}{
		"ours":            {encodeCertificates(first.certificates()...), true},
		"ours and others": {both, true},
		"others":          {encodeCertificates(other.certificates()...), false},
		"empty":           {nil, false},
		"garbage":         {[]byte("garbage"), false},
		"the leaf itself": {encodeCertificates(first.Leaf.Leaf), true},
	} {
		if err := k.Verifies(test.bundle); (err == nil) != test.trusts {
			t.Errorf("%s: %v", name, err)
		}
	}
	clock.SetTime(first.Leaf.Leaf.NotAfter.Add(time.Second))
	if k.Ready(nil) == nil || k.Verifies(k.CABundle()) == nil {
		t.Error("ready with a certificate that is over")
	}
	clock.SetTime(first.Leaf.Leaf.NotBefore.Add(-time.Second))
	if k.Ready(nil) == nil || k.Verifies(k.CABundle()) == nil {
		t.Error("ready with a certificate that is not valid yet")
	}
}

func TestNotifications(t *testing.T) {
	k := newTestKeeper(testclock.NewFakeClock(start))
	changes, touches := 0, 0
	k.OnChange(func() { changes++ })
	k.onTouched(func() { touches++ })
	first := installed(t)
	secret := secretOf(t, first)
	for _, test := range []struct {
		what             string
		event            func()
		changes, touches int
	}{
		{"it appears", func() { k.observe(secret) }, 1, 1},
		{"it is seen again", func() { k.observe(secret) }, 0, 1},
		{"another Secret", func() { k.observe(&corev1.Secret{}) }, 0, 0},
		{"it is deleted", func() { k.vanished(secret) }, 0, 1},
		{"its deletion was missed", func() { k.vanished(toolscache.DeletedFinalStateUnknown{Obj: secret}) }, 0, 1},
		{"another is deleted", func() { k.vanished(&corev1.Secret{}) }, 0, 0},
		{"its bundle grows", func() {
			k.observe(secretOf(t, State{Trusted: append(installed(t).Trusted, first.Trusted...), Leaf: first.Leaf}))
		}, 1, 1},
	} {
		changes, touches = 0, 0
		test.event()
		if changes != test.changes || touches != test.touches {
			t.Errorf("%s: told %d changes and %d touches", test.what, changes, touches)
		}
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewMetrics(registry); err == nil {
		t.Error("registered twice")
	}
	k := NewKeeper(KeeperOptions{Policy: testPolicy, Clock: testclock.NewFakeClock(start), Log: logr.Discard(), Metrics: m})
	state, ready := staged(t)
	k.observe(secretOf(t, state))
	if got := value(t, registry, "modelrights_certificate_expiration_timestamp_seconds", certificateLeaf); got != float64(state.Leaf.Leaf.NotAfter.Unix()) {
		t.Errorf("the leaf ends at %v", got)
	}
	if got := value(t, registry, "modelrights_certificate_expiration_timestamp_seconds", certificateCA); got != float64(state.Active.Certificate.NotAfter.Unix()) {
		t.Errorf("the CA ends at %v: it is the one that signed which counts", got)
	}
	state, _ = plan(t, state, Seen{Next: Published}, ready)
	k.observe(secretOf(t, state))
	if got := value(t, registry, "modelrights_certificate_expiration_timestamp_seconds", certificateCA); got != float64(state.Active.Certificate.NotAfter.Unix()) {
		t.Errorf("after the exchange the CA ends at %v", got)
	}
}

// value is the metric's for that certificate; -1 if there is none.
func value(t *testing.T, registry *prometheus.Registry, name, certificate string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name && metric.GetLabel()[0].GetValue() == certificate {
				return metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
			}
		}
	}
	return -1
}

func TestTrimSecret(t *testing.T) {
	modelKey := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "acme-chat-7b-key"}, Data: map[string][]byte{"key": []byte("AGE-SECRET-KEY-1")}}
	if _, err := TrimSecret(modelKey); err != nil || modelKey.Data != nil {
		t.Error("the key of a model must not lie in the cache")
	}
	applied := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		corev1.LastAppliedConfigAnnotation: "AGE-SECRET-KEY-1",
	}}}
	if _, err := TrimSecret(applied); err != nil || applied.Annotations != nil {
		t.Error("nor may the copy that kubectl apply leaves in an annotation")
	}
	state, _ := staged(t)
	serving := secretOf(t, state)
	if _, err := TrimSecret(serving); err != nil || len(serving.Data[CertKey]) == 0 || len(serving.Data[PrivateKeyKey]) == 0 {
		t.Error("the serving certificate must stay in the cache")
	}
	for entry, text := range serving.Data {
		if entry != PrivateKeyKey && strings.Contains(string(text), "PRIVATE") {
			t.Errorf("the CA's key %s has no business in the cache", entry)
		}
	}
}
