package entitlement

import (
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// Outcome is how a check came out.
type Outcome string

// How a check can come out.
const (
	Passed     Outcome = "passed"
	Failed     Outcome = "failed"
	NotReached Outcome = "not reached"
)

// Check is one of the checks of a decision.
type Check struct {
	// Name is what is checked, in one word. The checks and their order are those of Decide.
	Name string `json:"name"`
	// Outcome is how it came out; what comes after a failed check is not reached.
	Outcome Outcome `json:"outcome"`
	// Reason, Message, Remedy and Fixer say why it failed, what to do about it, and who can. They are empty otherwise, but
	// for the check that found no licence to be needed.
	Reason  v1alpha1.Reason `json:"reason,omitempty"`
	Message string          `json:"message,omitempty"`
	Remedy  string          `json:"remedy,omitempty"`
	Fixer   Fixer           `json:"fixer,omitempty"`
}

// GrantExplanation says what became of one grant of a licence.
type GrantExplanation struct {
	// Name is the grant's, in the pod's namespace.
	Name string `json:"name"`
	// Checks are those between pod, licence and grant.
	Checks []Check `json:"checks"`
	// Seats are the grant's limits and who uses them; nil where there is nothing to say.
	Seats *SeatExplanation `json:"seats,omitempty"`
}

// LicenseExplanation says what became of one image of a licence that covers the reference.
type LicenseExplanation struct {
	// Name is the licence's.
	Name string `json:"name"`
	// Repository is the image of the licence that covers the reference, as it stands there.
	Repository string `json:"repository"`
	// Checks are those between pod and licence. The last, Grant, is whether any grant entitles.
	Checks []Check `json:"checks"`
	// Seats are the licence's limits and who uses them; nil where there is nothing to say.
	Seats *SeatExplanation `json:"seats,omitempty"`
	// Grants are the grants of the licence in the pod's namespace, by name. They are not reached where an earlier check
	// failed.
	Grants []GrantExplanation `json:"grants,omitempty"`
}

// Explanation is how a decision came about, check by check.
type Explanation struct {
	// Decision is the decision: the same as Decide's.
	Decision Decision `json:"-"`
	// Image is the reference, Normalized what it stands for; empty where that cannot be said.
	Image      string `json:"image"`
	Normalized string `json:"normalized,omitempty"`
	// Reason, Message, Remedy and Fixer are the decision in words.
	Reason  v1alpha1.Reason `json:"reason"`
	Message string          `json:"message"`
	Remedy  string          `json:"remedy,omitempty"`
	Fixer   Fixer           `json:"fixer,omitempty"`
	// Tolerated says that admission lets the use pass although it is refused: see Decision.Tolerated.
	Tolerated bool `json:"tolerated,omitempty"`
	// Checks are those of the reference itself: whether it can be read, and whether a licence covers it.
	Checks []Check `json:"checks"`
	// Licenses are those that cover the image, by name; one that covers it by several images comes several times.
	Licenses []LicenseExplanation `json:"licenses,omitempty"`
}

// Explain decides as Decide does, by the same checks, and says how every licence and grant came out that could entitle.
func Explain(r Request, s *Snapshot, now time.Time) Explanation {
	e := Explanation{Image: r.Image}
	ref, found, reason := s.lookup(&r, nil)
	if ref.Repository != "" {
		e.Normalized = ref.String()
	}
	e.Checks = explainLookup(Decision{Request: r, Reason: reason})
	e.Decision = Decision{Request: r, Reason: reason}
	furthest := -1
	mode := strictest(found)
	for _, c := range found {
		l, d, stage := explainLicense(&question{Request: r, ref: ref, coverage: c, now: now}, s)
		d.Enforcement = mode
		e.Licenses = append(e.Licenses, l)
		if !e.Decision.Entitled() && stage > furthest {
			e.Decision, furthest = d, stage
		}
	}
	if e.Decision.Reason == v1alpha1.ReasonDigestNotPinned {
		e.Decision.Pinned, _ = s.Pin(r.Image)
	}
	e.Decision.Tolerated = e.Decision.Refused() && relaxed(mode)
	e.Tolerated = e.Decision.Tolerated
	e.Reason, e.Message, e.Remedy = e.Decision.Reason, e.Decision.Message(), e.Decision.Remedy()
	e.Fixer = e.Decision.Fixer()
	return e
}

// explainLookup is how the reference itself came out, given a decision that speaks of nothing else.
func explainLookup(d Decision) []Check {
	reference, license := Check{Name: "Reference", Outcome: Passed}, Check{Name: "License", Outcome: Passed}
	switch d.Reason {
	case v1alpha1.ReasonUnparsableImage, v1alpha1.ReasonImageID:
		reference = failed("Reference", d)
		license.Outcome = NotReached
	case "":
	case v1alpha1.ReasonNotGoverned:
		license.Reason, license.Message = d.Reason, d.Message()
	default:
		license = failed("License", d)
	}
	return []Check{reference, license}
}

func failed(name string, d Decision) Check {
	return Check{Name: name, Outcome: Failed, Reason: d.Reason, Message: d.Message(), Remedy: d.Remedy(), Fixer: d.Fixer()}
}

// explainLicense is decideLicense in many words: every grant is asked, also after one that entitles.
func explainLicense(q *question, s *Snapshot) (LicenseExplanation, Decision, int) {
	e := LicenseExplanation{
		Name: q.license.Name, Repository: q.licensedImage().Repository,
		Seats: explainSeats(q.license.Spec.Terms.Limits, q.license.Spec.Terms.Overage, q.license.Status.Seats),
	}
	d := Decision{Request: q.Request, License: q.license.ModelLicense}
	stage := 0
	for _, check := range licenseChecks {
		if d.Reason != "" {
			e.Checks = append(e.Checks, Check{Name: check.name, Outcome: NotReached})
			continue
		}
		if d.Reason = check.ask(q); d.Reason != "" {
			at := d
			if d.Reason == v1alpha1.ReasonDigestNotPinned {
				at.Pinned, _ = s.Pin(q.Image)
			}
			e.Checks = append(e.Checks, failed(check.name, at))
			continue
		}
		e.Checks = append(e.Checks, Check{Name: check.name, Outcome: Passed})
		stage++
	}
	reached := d.Reason == ""
	if reached {
		d.Reason = v1alpha1.ReasonNoGrant
	}
	for _, g := range s.grants[q.Namespace][q.license.Name] {
		granted, reason, at := explainGrant(q, g, reached)
		e.Grants = append(e.Grants, granted)
		if !reached || d.Entitled() {
			continue
		}
		if at += len(licenseChecks) + 1; reason == "" || at > stage {
			d.Reason, d.Grant, stage = reason, g.ModelGrant, at
		}
		if reason == "" {
			d.Reason, d.KeyName = v1alpha1.ReasonEntitled, keyName(q.coverage)
		}
	}
	switch {
	case !reached:
		e.Checks = append(e.Checks, Check{Name: "Grant", Outcome: NotReached})
	case d.Entitled():
		e.Checks = append(e.Checks, Check{Name: "Grant", Outcome: Passed})
	default:
		e.Checks = append(e.Checks, failed("Grant", d))
	}
	return e, d, stage
}

func explainGrant(q *question, g *grant, reached bool) (GrantExplanation, v1alpha1.Reason, int) {
	e := GrantExplanation{Name: g.Name, Seats: explainSeats(g.Spec.Limits, "", g.Status.Seats)}
	stage := 0
	var reason v1alpha1.Reason
	for _, check := range grantChecks {
		if !reached || reason != "" {
			e.Checks = append(e.Checks, Check{Name: check.name, Outcome: NotReached})
			continue
		}
		if reason = check.ask(q, g); reason != "" {
			at := Decision{Request: q.Request, License: q.license.ModelLicense, Grant: g.ModelGrant, Reason: reason}
			e.Checks = append(e.Checks, failed(check.name, at))
			continue
		}
		e.Checks = append(e.Checks, Check{Name: check.name, Outcome: Passed})
		stage++
	}
	return e, reason, stage
}

// UseExplanation is how the decision on one place of a pod came about.
type UseExplanation struct {
	// Use is the place.
	Use images.Use `json:"-"`
	// Explanation is how the decision on it came about.
	Explanation
}

// ExplainPod explains every image that a pod names, in the order in which images.FromPod lists them. Places where the
// image is unresolved are left out, as in DecidePod.
func ExplainPod(pod Pod, s *Snapshot, now time.Time) []UseExplanation {
	var all []UseExplanation
	for _, u := range images.FromPod(pod.Spec) {
		if u.Confidence != images.Unresolved {
			all = append(all, UseExplanation{Use: u, Explanation: explainUse(pod, u, s, now)})
		}
	}
	return all
}

func explainUse(pod Pod, u images.Use, s *Snapshot, now time.Time) Explanation {
	d := UseDecision{Use: u, Decision: decideUse(pod, u, "", s, now)}
	var e Explanation
	if d.Reason == v1alpha1.ReasonTooManyReferences {
		e = Explanation{Decision: d.Decision, Checks: []Check{failed("Reference", d.Decision), {Name: "License", Outcome: NotReached}}}
	} else {
		e = Explain(d.Request, s, now)
	}
	e.Reason, e.Message, e.Remedy, e.Fixer = d.Reason, d.Message(), d.Remedy(), d.Fixer()
	return e
}
