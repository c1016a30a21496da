package servingcert

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"testing"
	"time"
)

var (
	start      = time.Date(2026, time.November, 2, 12, 0, 0, 0, time.UTC)
	testNames  = Names{Namespace: "modelrights-system", Services: []string{"modelrights-webhook", "modelrights-keyservice"}}
	testPolicy = DefaultPolicy(testNames)
)

// plan fails the test on errors.
func plan(t *testing.T, state State, seen Seen, now time.Time) (State, []Step) {
	t.Helper()
	next, steps, err := Plan(state, seen, testPolicy, now)
	if err != nil {
		t.Fatal(err)
	}
	return next, steps
}

// installed is the state after the first look.
func installed(t *testing.T) State {
	t.Helper()
	state, steps := plan(t, State{}, Seen{}, start)
	if len(steps) != 2 {
		t.Fatalf("the first look takes the steps %v", steps)
	}
	return state
}

// staged is a state with a next CA that is published, and when it may sign.
func staged(t *testing.T) (State, time.Time) {
	t.Helper()
	state := installed(t)
	now := state.Active.Certificate.NotAfter.Add(-testPolicy.CARenewBefore + time.Hour)
	state, _ = plan(t, state, Seen{}, now)
	if state.Next == nil {
		t.Fatal("no CA is staged")
	}
	state, _ = plan(t, state, Seen{Next: Published}, now)
	return state, now.Add(testPolicy.Propagation)
}

func encode(t *testing.T, state State) map[string][]byte {
	t.Helper()
	data, err := state.data()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestHealing: whatever the Secret holds, one look makes it serve, and what is whole of it stays.
func TestHealing(t *testing.T) {
	other, err := newCA(testPolicy, start)
	if err != nil {
		t.Fatal(err)
	}
	otherKey, err := encodeKey(other.Key)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := testPolicy
	elsewhere.Names.Services = []string{"renamed", "modelrights-keyservice"}
	foreign := testPolicy
	foreign.Names.Namespace = "elsewhere"
	foreignCA, err := newCA(foreign, start)
	if err != nil {
		t.Fatal(err)
	}
	set := func(entry, text string) func(map[string][]byte) {
		return func(data map[string][]byte) { data[entry] = []byte(text) }
	}
	drop := func(entries ...string) func(map[string][]byte) {
		return func(data map[string][]byte) {
			for _, entry := range entries {
				delete(data, entry)
			}
		}
	}
	type kept struct{ ca, leaf bool }
	tests := map[string]struct {
		damage func(map[string][]byte)
		at     time.Time
		kept   kept
		staged bool
	}{
		"nothing wrong":                   {damage: drop(), kept: kept{true, true}},
		"empty":                           {damage: func(d map[string][]byte) { clear(d) }},
		"no leaf":                         {damage: drop(CertKey, PrivateKeyKey), kept: kept{ca: true}},
		"half a leaf: no key":             {damage: drop(PrivateKeyKey), kept: kept{ca: true}},
		"half a leaf: no certificate":     {damage: drop(CertKey), kept: kept{ca: true}},
		"garbage for a leaf":              {damage: set(CertKey, "garbage"), kept: kept{ca: true}},
		"garbage for the leaf's key":      {damage: set(PrivateKeyKey, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), kept: kept{ca: true}},
		"another leaf's key":              {damage: set(PrivateKeyKey, string(otherKey)), kept: kept{ca: true}},
		"no CA key":                       {damage: drop(caPrivateKeyKey), kept: kept{true, true}, staged: true},
		"garbage for the CA's key":        {damage: set(caPrivateKeyKey, "garbage"), kept: kept{true, true}, staged: true},
		"another CA's key":                {damage: set(caPrivateKeyKey, string(otherKey)), kept: kept{true, true}, staged: true},
		"neither CA key nor leaf":         {damage: drop(caPrivateKeyKey, CertKey), kept: kept{ca: true}},
		"no bundle":                       {damage: drop(CACertKey)},
		"garbage for a bundle":            {damage: set(CACertKey, "garbage")},
		"another CA's bundle":             {damage: set(CACertKey, string(encodeCertificates(other.Certificate)))},
		"a schedule that is garbage":      {damage: set(scheduleKey, "{"), kept: kept{true, true}},
		"a next key without its CA":       {damage: set(nextCAPrivateKeyKey, string(otherKey)), kept: kept{true, true}},
		"the next CA is the present one":  {damage: func(d map[string][]byte) { d[nextCAPrivateKeyKey] = d[caPrivateKeyKey] }, kept: kept{true, true}},
		"the clock is past the leaf":      {damage: drop(), at: start.Add(100 * day), kept: kept{ca: true}},
		"the clock is past everything":    {damage: drop(), at: start.Add(50 * 365 * day), kept: kept{ca: true}},
		"the clock is back by the skew":   {damage: drop(), at: start.Add(-50 * time.Minute), kept: kept{true, true}},
		"the clock is years back":         {damage: drop(), at: start.Add(-5 * 365 * day), kept: kept{ca: true}},
		"a leaf for other names":          {damage: func(d map[string][]byte) { sign(t, d, elsewhere) }, kept: kept{ca: true}},
		"a CA that may not sign our name": {damage: func(d map[string][]byte) { adopt(t, d, foreignCA) }},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := tc.at
			if now.IsZero() {
				now = start.Add(day)
			}
			before := installed(t)
			data := encode(t, before)
			tc.damage(data)
			damaged, err := parseState(data)
			if err != nil && bytes.Contains([]byte(err.Error()), []byte("AAAA")) {
				t.Errorf("the error quotes the Secret: %v", err)
			}
			healed, _ := plan(t, damaged, Seen{}, now)
			if !healed.serves(now) {
				t.Fatal("does not serve")
			}
			if got := contains(healed.certificates(), before.Active.Certificate); got != tc.kept.ca {
				t.Errorf("the CA is still trusted: %t", got)
			}
			if got := healed.Leaf.Leaf.Equal(before.Leaf.Leaf); got != tc.kept.leaf {
				t.Errorf("the leaf is kept: %t", got)
			}
			if (healed.Next != nil) != tc.staged {
				t.Errorf("a next CA is staged: %t", healed.Next != nil)
			}
			read, err := parseState(encode(t, healed))
			if err != nil {
				t.Errorf("what was written cannot be read: %v", err)
			}
			if _, steps := plan(t, read, Seen{Former: healed.Trusted}, now); len(steps) > 0 {
				t.Errorf("a second look changes it again: %v", steps)
			}
		})
	}
}

func (s State) serves(now time.Time) bool {
	return s.Leaf != nil && verify(s.Leaf, s.certificates(), testNames.dnsNames(), now) == nil
}

// sign replaces the leaf by one that the CA signs under another policy.
func sign(t *testing.T, data map[string][]byte, policy Policy) {
	t.Helper()
	state, err := parseState(data)
	if err != nil {
		t.Fatal(err)
	}
	if state.Leaf, err = newLeaf(state.Active, policy, start); err != nil {
		t.Fatal(err)
	}
	for entry, text := range encode(t, state) {
		data[entry] = text
	}
}

// adopt puts another CA in the place of the CA, and leaves no leaf.
func adopt(t *testing.T, data map[string][]byte, ca *CA) {
	t.Helper()
	clear(data)
	for entry, text := range encode(t, State{Trusted: []TrustedCA{{Certificate: ca.Certificate}}, Active: ca}) {
		data[entry] = text
	}
}

// TestOlderSecret: the RSA authority of an earlier version, in PKCS #1, is taken over and signs on.
func TestOlderSecret(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "modelrights-ca"}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(10 * 365 * day),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	certificate, err := create(template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	older := &CA{Certificate: certificate, Key: key}
	leaf, err := newLeaf(older, testPolicy, start)
	if err != nil {
		t.Fatal(err)
	}
	data := encode(t, State{Trusted: []TrustedCA{{Certificate: certificate}}, Active: older, Leaf: leaf})
	data[caPrivateKeyKey] = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	delete(data, scheduleKey)
	state, err := parseState(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, steps := plan(t, state, Seen{}, start.Add(day)); len(steps) > 0 {
		t.Errorf("changed: %v", steps)
	}
	renewed, steps := plan(t, state, Seen{}, start.Add(61*day))
	if len(steps) != 1 || renewed.Leaf.Leaf.CheckSignatureFrom(certificate) != nil {
		t.Errorf("does not sign on: %v", steps)
	}
}

// TestStages holds each stage of the exchange of a CA.
func TestStages(t *testing.T) {
	t.Run("a CA is staged a year before the end, and signs nothing", func(t *testing.T) {
		state := installed(t)
		due := state.Active.Certificate.NotAfter.Add(-testPolicy.CARenewBefore)
		early, _ := plan(t, state, Seen{}, due.Add(-time.Hour))
		if early.Next != nil {
			t.Error("staged too early")
		}
		late, _ := plan(t, state, Seen{Next: Published}, due.Add(time.Hour))
		if late.Next == nil || !late.Trusted[0].Certificate.Equal(late.Next.Certificate) || len(late.Trusted) != 2 {
			t.Fatal("not staged in front of the bundle")
		}
		if !late.NextPublished.IsZero() {
			t.Error("a CA that is not written yet cannot be published")
		}
		if late.Leaf.Leaf.CheckSignatureFrom(late.Active.Certificate) != nil || !late.Active.Certificate.Equal(state.Active.Certificate) {
			t.Error("the next CA has signed")
		}
	})
	t.Run("it signs when it has been published for the propagation time", func(t *testing.T) {
		state, ready := staged(t)
		early, steps := plan(t, state, Seen{Next: Published}, ready.Add(-time.Second))
		if len(steps) > 0 || !early.Active.Certificate.Equal(state.Active.Certificate) {
			t.Error("signs too early")
		}
		if unseen, steps := plan(t, state, Seen{}, ready); len(steps) > 0 || unseen.Next == nil {
			t.Error("signs though nobody looked")
		}
		withdrawn, _ := plan(t, state, Seen{Next: Unpublished}, ready)
		if withdrawn.Next == nil || !withdrawn.NextPublished.IsZero() {
			t.Error("signs though a consumer has lost it again")
		}
		late, _ := plan(t, state, Seen{Next: Published}, ready)
		if !late.Active.Certificate.Equal(state.Next.Certificate) || late.Leaf.Leaf.CheckSignatureFrom(state.Next.Certificate) != nil {
			t.Fatal("does not sign")
		}
		if late.Next != nil || encode(t, late)[nextCAPrivateKeyKey] != nil {
			t.Error("the next CA's key has two places")
		}
	})
	t.Run("the former CA stays until its last leaf has ended", func(t *testing.T) {
		state, now := staged(t)
		last, former := state.Leaf.Leaf, state.Active.Certificate
		state, _ = plan(t, state, Seen{Next: Published}, now)
		trusts := func(at time.Time) bool {
			later, _ := plan(t, state, Seen{}, at)
			return contains(later.certificates(), former)
		}
		if !trusts(last.NotAfter) {
			t.Error("the former CA left while a leaf of its could be served")
		}
		if trusts(last.NotAfter.Add(testPolicy.Backdate)) {
			t.Error("the former CA stays")
		}
	})
	t.Run("a retirement that was lost, or lies too far ahead, is set anew", func(t *testing.T) {
		for _, retire := range []time.Time{{}, start.Add(50 * 365 * day)} {
			state := installed(t)
			state.Trusted = append(state.Trusted, TrustedCA{Certificate: installed(t).Trusted[0].Certificate, Retire: retire})
			state, _ = plan(t, state, Seen{}, start)
			if len(state.Trusted) != 2 || !state.Trusted[1].Retire.Equal(start.Add(testPolicy.LeafLifetime+testPolicy.Backdate)) {
				t.Errorf("%s: %+v", retire, state.Trusted)
			}
		}
	})
	t.Run("a publication in the future says nothing", func(t *testing.T) {
		state, ready := staged(t)
		state.NextPublished = ready.Add(1000 * day)
		state, _ = plan(t, state, Seen{Next: Published}, ready)
		if !state.NextPublished.Equal(ready) {
			t.Errorf("published at %s", state.NextPublished)
		}
	})
	t.Run("a leaf never outlives its CA, and is not renewed for nothing", func(t *testing.T) {
		state, ready := staged(t)
		state.Next, state.NextPublished, state.Trusted = nil, time.Time{}, state.Trusted[1:]
		end, made := state.Active.Certificate.NotAfter, 0
		for now := ready; now.Before(end); now = now.Add(day) {
			var steps []Step
			state, steps = plan(t, state, Seen{}, now)
			made += len(slices.DeleteFunc(steps, func(s Step) bool { return s.Certificate != certificateLeaf }))
			if state.Leaf.Leaf.NotAfter.After(end) {
				t.Fatal("a leaf outlives its CA")
			}
		}
		for now := end.Add(-time.Hour); now.Before(end); now = now.Add(time.Minute) {
			var steps []Step
			state, steps = plan(t, state, Seen{}, now)
			made += len(slices.DeleteFunc(steps, func(s Step) bool { return s.Certificate != certificateLeaf }))
		}
		if made > 8 {
			t.Errorf("%d leaves in a year", made)
		}
	})
}

// TestVanished: a Secret that was deleted comes back with the CAs that consumers and replicas still go by, for a while.
func TestVanished(t *testing.T) {
	before := installed(t)
	now := start.Add(day)
	after, _ := plan(t, State{}, Seen{Former: before.Trusted}, now)
	if !contains(after.certificates(), before.Active.Certificate) || after.Active.Certificate.Equal(before.Active.Certificate) {
		t.Fatal("the former CA must stay trusted, and sign no more")
	}
	if err := verify(before.Leaf, after.certificates(), testNames.dnsNames(), now); err != nil {
		t.Errorf("replicas that still serve the former leaf are not trusted: %v", err)
	}
	overlap := now.Add(testPolicy.overlap())
	if kept, _ := plan(t, after, Seen{Former: after.Trusted}, overlap.Add(-time.Minute)); len(kept.Trusted) != 2 {
		t.Error("it left before the overlap was over")
	}
	gone, _ := plan(t, after, Seen{Former: after.Trusted}, overlap)
	if len(gone.Trusted) != 1 {
		t.Error("it must leave when the overlap is over: its key may be the reason for the deletion")
	}
	// A replica whose clock lags and that remembers more does not bring it back.
	if lagging, _ := plan(t, gone, Seen{Former: after.Trusted}, overlap.Add(-time.Minute)); len(lagging.Trusted) != 1 {
		t.Error("it came back")
	}
}

// TestClockAhead: a replica whose clock is decades ahead replaces everything; those whose clocks are right take it back
// in one look, and the bundle trusts all along what they serve.
func TestClockAhead(t *testing.T) {
	before := installed(t)
	right, ahead := start.Add(day), start.Add(30*365*day)
	broken, _ := plan(t, before, Seen{Former: before.Trusted}, ahead)
	if err := verify(before.Leaf, broken.certificates(), testNames.dnsNames(), right); err != nil {
		t.Fatalf("the leaf that right replicas hold fast to is not trusted: %v", err)
	}
	healed, steps := plan(t, broken, Seen{Former: broken.Trusted}, right)
	if !healed.serves(right) || !slices.ContainsFunc(steps, func(s Step) bool { return s.Urgent }) {
		t.Error("not healed")
	}
	if !contains(healed.certificates(), before.Active.Certificate) || !contains(healed.certificates(), broken.Active.Certificate) {
		t.Error("a CA was thrown away")
	}
	later, _ := plan(t, healed, Seen{Former: healed.Trusted}, right.Add(testPolicy.longest()))
	if len(later.Trusted) > 2 {
		t.Errorf("%d CAs are trusted for as long as the clock was ahead", len(later.Trusted))
	}
}

// TestBundleIsBounded: deleting the Secret again and again does not make the bundle grow without end.
func TestBundleIsBounded(t *testing.T) {
	var former []TrustedCA
	for i := range 20 {
		state, _ := plan(t, State{}, Seen{Former: former}, start.Add(time.Duration(i)*time.Second))
		if former = state.Trusted; len(former) > maxTrusted+1 {
			t.Fatalf("%d CAs", len(former))
		}
	}
}

// TestCertificates holds what the certificates may be used for.
func TestCertificates(t *testing.T) {
	state := installed(t)
	ca, leaf := state.Active.Certificate, state.Leaf.Leaf
	if !ca.IsCA || !ca.MaxPathLenZero || ca.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || ca.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("the CA is %+v", ca)
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Errorf("the leaf is %+v", leaf)
	}
	if ca.SerialNumber.BitLen() < 64 || leaf.SerialNumber.BitLen() < 64 || ca.SerialNumber.Cmp(leaf.SerialNumber) == 0 {
		t.Error("serial numbers are not random")
	}
	if !ca.NotBefore.Equal(start.Add(-time.Hour)) || !leaf.NotBefore.Equal(start.Add(-time.Hour)) {
		t.Error("not backdated")
	}
	for _, name := range []string{"modelrights-webhook.modelrights-system.svc", "modelrights-keyservice.modelrights-system.svc"} {
		if err := verify(state.Leaf, state.certificates(), []string{name}, start); err != nil {
			t.Error(err)
		}
	}
	// Whoever steals the CA's key can pose as the operator's Services, and as nothing else.
	for _, other := range []Names{{Namespace: "kube-system", Services: []string{"modelrights-webhook"}}, {Namespace: "system", Services: []string{"modelrights"}}} {
		policy := testPolicy
		policy.Names = other
		stolen, err := newLeaf(state.Active, policy, start)
		if err != nil {
			t.Fatal(err)
		}
		if verify(stolen, state.certificates(), nil, start) == nil {
			t.Errorf("the CA may sign for %s", other.Namespace)
		}
	}
	data := encode(t, state)
	for entry, text := range data {
		if private := bytes.Contains(text, []byte("PRIVATE")); private != (entry == caPrivateKeyKey || entry == PrivateKeyKey) {
			t.Errorf("%s holds a private key: %t", entry, private)
		}
	}
}

// FuzzParseState: no content of the Secret stops the authority.
func FuzzParseState(f *testing.F) {
	state, _, err := Plan(State{}, Seen{}, testPolicy, start)
	if err != nil {
		f.Fatal(err)
	}
	data, err := state.data()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[CACertKey], data[caPrivateKeyKey], data[CertKey], data[PrivateKeyKey], data[scheduleKey])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte("{"), []byte(nil), []byte("x"), []byte(`{"retire":{"":"2026-01-01T00:00:00Z"}}`))
	f.Fuzz(func(t *testing.T, bundle, caKey, leaf, key, times []byte) {
		state, _ := parseState(map[string][]byte{CACertKey: bundle, caPrivateKeyKey: caKey, CertKey: leaf, PrivateKeyKey: key, scheduleKey: times})
		next, _, err := Plan(state, Seen{}, testPolicy, start)
		if err != nil {
			t.Fatal(err)
		}
		if !next.serves(start) {
			t.Fatal("does not serve")
		}
	})
}
