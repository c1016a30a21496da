package servingcert

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Certificates that steps and metrics speak of.
const (
	certificateCA   = "ca"
	certificateLeaf = "leaf"
)

// Step is one change that Plan made, for the log and the metrics.
type Step struct {
	// Message says what was done. It is constant text.
	Message string
	// Certificate is "ca" or "leaf", Subject and NotAfter are the certificate's.
	Certificate string
	Subject     string
	NotAfter    time.Time
	// Made says that a new certificate took up service.
	Made bool
	// Urgent says that the schedule did not foresee it: something was missing, unusable or over.
	Urgent bool
}

// Publication says whether every consumer has been seen to be told to trust a CA.
type Publication int

// What is known of a publication.
const (
	PublicationUnknown Publication = iota
	Unpublished
	Published
)

// Seen is what a replica knows beside the Secret.
type Seen struct {
	// Next is the publication of the next CA, where one is staged.
	Next Publication
	// Former is the bundle that the replica saw last.
	Former []TrustedCA
}

// Plan says what the Secret should hold now, given what it holds. No steps: the state stays.
//
// A CA is exchanged in stages. The next one is made long before the present one ends, and goes into the bundle at once.
// It signs only when it has been published everywhere for the propagation time. The former one stays in the bundle until
// the last leaf that it signed has ended. If nothing that is there can serve, Plan makes everything anew at once.
//
// Plan does no I/O but for the random numbers of the keys that it makes. Given its own result at the same moment, it
// changes nothing. The error means that keys cannot be made, or that what they sign would not serve.
func Plan(state State, seen Seen, policy Policy, now time.Time) (State, []Step, error) {
	p := planner{State: state, policy: policy, now: now}
	p.Trusted = slices.Clone(state.Trusted)
	p.recall(seen.Former)
	p.considerNext(seen.Next)
	if err := p.chooseSigner(seen.Next); err != nil {
		return state, nil, err
	}
	if err := p.renewLeaf(); err != nil {
		return state, nil, err
	}
	p.retire()
	if len(p.steps) == 0 {
		return state, nil, nil
	}
	return p.State, p.steps, nil
}

type planner struct {
	State
	policy Policy
	now    time.Time
	steps  []Step
	// resign says that the leaf is to be replaced, whatever it is like.
	resign bool
}

func (p *planner) step(message, kind string, certificate *x509.Certificate, made, urgent bool) {
	p.steps = append(p.steps, Step{
		Message: message, Certificate: kind, Subject: certificate.Subject.String(), NotAfter: certificate.NotAfter,
		Made: made, Urgent: urgent,
	})
}

// recall adds the CAs that were trusted a moment ago and have vanished before their time, as when the Secret was deleted
// or restored from a backup: replicas still serve what they signed. They retire when the overlap is over.
func (p *planner) recall(former []TrustedCA) {
	for _, ca := range former {
		if slices.ContainsFunc(p.Trusted, func(t TrustedCA) bool { return t.Certificate.Equal(ca.Certificate) }) {
			continue
		}
		if retire := p.now.Add(p.policy.overlap()); ca.Retire.IsZero() || ca.Retire.After(retire) {
			ca.Retire = retire
		}
		// Another replica, whose clock is ahead, may just have let it go in time.
		if ca.Retire.Sub(p.now) < recallTolerance {
			continue
		}
		p.Trusted = append(p.Trusted, ca)
		p.step("a CA that vanished from the bundle stays trusted for a while", certificateCA, ca.Certificate, false, false)
	}
}

// considerNext keeps the record of since when the next CA has been published.
func (p *planner) considerNext(publication Publication) {
	if p.Next == nil {
		p.NextPublished = time.Time{}
		return
	}
	if p.now.After(p.Next.Certificate.NotAfter) || (p.Active != nil && p.Next.Certificate.Equal(p.Active.Certificate)) {
		p.step("dropped the next CA", certificateCA, p.Next.Certificate, false, false)
		p.Next, p.NextPublished = nil, time.Time{}
		return
	}
	switch {
	// A time that lies ahead was written when the clock was, and says nothing.
	case publication == Published && (p.NextPublished.IsZero() || p.NextPublished.After(p.now)):
		p.NextPublished = p.now
		p.step("the next CA is published everywhere", certificateCA, p.Next.Certificate, false, false)
	case publication == Unpublished && !p.NextPublished.IsZero():
		p.NextPublished = time.Time{}
		p.step("the next CA is no longer published everywhere", certificateCA, p.Next.Certificate, false, false)
	}
}

// chooseSigner decides which CA signs, and stages the next one in time.
func (p *planner) chooseSigner(publication Publication) error {
	activeUsable := p.Active != nil && validAt(p.Active.Certificate, p.now)
	nextUsable := p.Next != nil && validAt(p.Next.Certificate, p.now)
	settled := nextUsable && publication == Published && !p.NextPublished.IsZero() && !p.now.Before(p.NextPublished.Add(p.policy.Propagation))
	switch serving := p.serves(); {
	case settled:
		p.activateNext("the next CA signs from now on", false)
	case activeUsable, serving:
	case nextUsable:
		p.activateNext("the next CA signs before its time, since there is no other", true)
	default:
		return p.replaceCA("made a new CA that signs at once")
	}
	due := p.Active == nil || !validAt(p.Active.Certificate, p.now) || p.now.After(p.Active.Certificate.NotAfter.Add(-p.policy.CARenewBefore))
	if p.Next != nil || !due {
		return nil
	}
	next, err := newCA(p.policy, p.now)
	if err != nil {
		return err
	}
	p.Next, p.NextPublished = next, time.Time{}
	p.trust(next)
	p.step("made the next CA, to be trusted before it signs", certificateCA, next.Certificate, false, false)
	return nil
}

func (p *planner) activateNext(message string, urgent bool) {
	p.Active, p.Next, p.NextPublished = p.Next, nil, time.Time{}
	p.resign = true
	p.step(message, certificateCA, p.Active.Certificate, true, urgent)
}

// replaceCA makes a CA that nobody trusts yet, where there is none that could sign. Those of the bundle stay for the
// overlap: replicas may still serve what they signed.
func (p *planner) replaceCA(message string) error {
	ca, err := newCA(p.policy, p.now)
	if err != nil {
		return err
	}
	for i, former := range p.Trusted {
		if retire := p.now.Add(p.policy.overlap()); former.Retire.IsZero() || former.Retire.After(retire) {
			p.Trusted[i].Retire = retire
		}
	}
	p.Active, p.Next, p.NextPublished, p.Leaf = ca, nil, time.Time{}, nil
	p.trust(ca)
	p.step(message, certificateCA, ca.Certificate, true, true)
	return nil
}

func (p *planner) trust(ca *CA) {
	p.Trusted = append([]TrustedCA{{Certificate: ca.Certificate}}, p.Trusted...)
}

// serves says whether whoever trusts the bundle takes the leaf now.
func (p *planner) serves() bool {
	return p.Leaf != nil && verify(p.Leaf, p.certificates(), p.policy.Names.dnsNames(), p.now) == nil
}

// renewLeaf signs a leaf when a new CA signs, when the present leaf does not serve, and when two thirds of its life are
// over, unless the new one would end no later.
func (p *planner) renewLeaf() error {
	if p.Active == nil || !validAt(p.Active.Certificate, p.now) {
		return nil // chooseSigner saw to it that the leaf serves
	}
	serves := p.serves()
	if serves && !p.resign {
		leaf := p.Leaf.Leaf
		renewal := leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
		gains := leafEnd(p.Active, p.policy, p.now).Sub(leaf.NotAfter) >= time.Minute
		if p.now.Before(renewal) || !gains {
			return nil
		}
	}
	former := p.Leaf
	if err := p.sign(); err != nil {
		return err
	}
	if !p.serves() {
		// The CA cannot sign for these names, or is no CA of ours.
		if err := p.replaceCA("made a new CA, since the present one cannot sign for the Services' names"); err != nil {
			return err
		}
		if err := p.sign(); err != nil {
			return err
		}
		if err := verify(p.Leaf, p.certificates(), p.policy.Names.dnsNames(), p.now); err != nil {
			return fmt.Errorf("the new serving certificate does not serve: %w", err)
		}
		former = nil
	}
	if former != nil {
		p.outlive(former.Leaf)
	}
	p.step("made a new serving certificate", certificateLeaf, p.Leaf.Leaf, true, !serves)
	return nil
}

func (p *planner) sign() error {
	leaf, err := newLeaf(p.Active, p.policy, p.now)
	if err != nil {
		return err
	}
	p.Leaf = leaf
	return nil
}

// outlive keeps the CA that signed the former leaf until that leaf has ended, on clocks that differ.
func (p *planner) outlive(former *x509.Certificate) {
	for i, ca := range p.Trusted {
		if p.signs(ca.Certificate) || former.CheckSignatureFrom(ca.Certificate) != nil {
			continue
		}
		if until := former.NotAfter.Add(p.policy.Backdate); until.After(ca.Retire) {
			p.Trusted[i].Retire = until
		}
	}
}

// signs says whether the CA signs now or is going to.
func (p *planner) signs(certificate *x509.Certificate) bool {
	return (p.Active != nil && p.Active.Certificate.Equal(certificate)) || (p.Next != nil && p.Next.Certificate.Equal(certificate))
}

// retire lets former CAs go when their time has come, and bounds how long that may be: a schedule that was lost, or was
// written while the clock was ahead, must keep no CA for ever. The CA of the present leaf stays.
func (p *planner) retire() {
	kept := make([]TrustedCA, 0, len(p.Trusted))
	latest := p.now.Add(p.policy.longest())
	former := 0
	for _, ca := range p.Trusted {
		if p.signs(ca.Certificate) || (p.Leaf != nil && p.Leaf.Leaf.CheckSignatureFrom(ca.Certificate) == nil) {
			ca.Retire = time.Time{}
			kept = append(kept, ca)
			continue
		}
		if ca.Retire.IsZero() || ca.Retire.After(latest) {
			ca.Retire = latest
			p.step("a former CA is to leave the bundle", certificateCA, ca.Certificate, false, false)
		}
		if former++; !ca.Retire.After(p.now) || former > maxTrusted {
			p.step("a former CA left the bundle", certificateCA, ca.Certificate, false, false)
			continue
		}
		kept = append(kept, ca)
	}
	p.Trusted = kept
}
