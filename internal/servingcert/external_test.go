package servingcert

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testclock "k8s.io/utils/clock/testing"
)

// issued is what cert-manager writes: no CA key, no schedule.
func issued(t *testing.T, now time.Time) State {
	t.Helper()
	state, _ := plan(t, State{}, Seen{}, now)
	state.Active = nil
	return state
}

func bundleOf(state State) []byte { return encodeCertificates(state.certificates()...) }

// TestCarryOver: CAs that were published stay for the overlap, and no longer.
func TestCarryOver(t *testing.T) {
	first, second := issued(t, start), issued(t, start.Add(day))
	carry := func(published map[string]string, current State, now time.Time) (map[string]string, time.Time) {
		t.Helper()
		data, next, err := CarryOver(published, bundleOf(current), testPolicy, now)
		if err != nil {
			t.Fatal(err)
		}
		return data, next
	}
	trusts := func(data map[string]string, state State) bool {
		return contains(parseCertificates([]byte(data[CACertKey])), state.Trusted[0].Certificate)
	}
	at := start.Add(day)
	published, next := carry(nil, first, start)
	if !trusts(published, first) || !next.IsZero() {
		t.Fatalf("published %v, next look %s", published, next)
	}
	published, next = carry(published, second, at)
	if !trusts(published, first) || !trusts(published, second) || !next.Equal(at.Add(testPolicy.overlap())) {
		t.Errorf("the former CA is not carried over until %s, but until %s", at.Add(testPolicy.overlap()), next)
	}
	again, _ := carry(published, second, next.Add(-time.Minute))
	if !trusts(again, first) || again[scheduleKey] != published[scheduleKey] {
		t.Error("a second look changes it")
	}
	if over, next := carry(again, second, next); trusts(over, first) || !next.IsZero() {
		t.Error("carried over for ever")
	}
	if back, _ := carry(published, first, at.Add(time.Minute)); !trusts(back, second) {
		t.Error("taken back: the CA between must stay for the overlap, too")
	}
	if over, _ := carry(published, second, first.Trusted[0].Certificate.NotAfter); trusts(over, first) {
		t.Error("a CA that is over is carried over")
	}
	damaged := map[string]string{CACertKey: published[CACertKey], scheduleKey: `{"retire":{"x":"`}
	if mended, next := carry(damaged, second, at); !trusts(mended, first) || !next.Equal(at.Add(testPolicy.overlap())) {
		t.Error("a lost schedule must neither drop a CA nor keep it for ever")
	}
	if kept, _, err := CarryOver(published, []byte("garbage"), testPolicy, at); err != nil || kept[CACertKey] != published[CACertKey] {
		t.Errorf("a Secret without CAs must change nothing: %v", err)
	}
	var many map[string]string
	for i := range 20 {
		many, _ = carry(many, issued(t, start), start.Add(time.Duration(i)*time.Second))
	}
	if count := len(parseCertificates([]byte(many[CACertKey]))); count > maxTrusted+1 {
		t.Errorf("%d CAs", count)
	}
}

// TestExternalExchange: cert-manager writes CA and leaf at once; whichever of both objects a consumer's bundle was made
// of, and whichever leaf a replica serves, the call goes through.
func TestExternalExchange(t *testing.T) {
	first := issued(t, start)
	at := start.Add(day)
	second := issued(t, at)
	clock := testclock.NewFakeClock(start)
	k := newTestKeeper(clock)
	config := func(data map[string]string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: BundleName}, Data: data}
	}
	published, _, err := CarryOver(nil, bundleOf(first), testPolicy, start)
	if err != nil {
		t.Fatal(err)
	}
	k.carry(config(published))
	k.observe(secretOf(t, first))
	nodes := k.CABundle()

	clock.SetTime(at)
	k.observe(secretOf(t, second))
	union := k.CABundle()
	for what, bundle := range map[string][]byte{"the bundle of before": nodes, "the new bundle": union} {
		if err := k.Verifies(bundle); err != nil {
			t.Errorf("right after the exchange, with %s: %v", what, err)
		}
	}
	restarted := newTestKeeper(clock)
	restarted.carry(config(published))
	restarted.observe(secretOf(t, second))
	if err := restarted.Verifies(union); err != nil {
		t.Errorf("a replica that was restarted: %v", err)
	}
	if string(restarted.CABundle()) != string(union) {
		t.Error("replicas publish different bundles, and would overwrite each other's")
	}
	clock.SetTime(at.Add(testPolicy.Propagation))
	if !served(t, k).Leaf.Equal(second.Leaf.Leaf) {
		t.Error("the new leaf is not served")
	}
	if err := k.Verifies(union); err != nil {
		t.Error(err)
	}
	k.carry(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere", Name: BundleName}, Data: map[string]string{CACertKey: string(bundleOf(installed(t)))}})
	if string(k.CABundle()) != string(union) {
		t.Error("a ConfigMap of another namespace brings trust")
	}
}
