package entitlement

import (
	"strings"
	"testing"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// TestDecideTerms goes through what the terms ask for, for a new pod and for one that has its seats.
func TestDecideTerms(t *testing.T) {
	const hour = time.Hour
	grant := func() *builders.GrantBuilder {
		return builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm")
	}
	pod := server().Container("main", chatImage)
	const entitled = v1alpha1.ReasonEntitled
	tests := map[string]struct {
		license       *builders.LicenseBuilder
		grant         *builders.GrantBuilder
		pod           *builders.PodBuilder
		fresh, holder v1alpha1.Reason
		fixer         Fixer    // of the new pod's refusal
		says          []string // in the new pod's message or remedy
	}{
		"suspended":          {chat().Suspended(), grant(), pod, v1alpha1.ReasonSuspended, v1alpha1.ReasonSuspended, FixerLicenseOwner, []string{"which is suspended", "spec.suspended"}},
		"suspended and over": {chat().Suspended().NotAfter(now.Add(-hour)), grant(), pod, v1alpha1.ReasonSuspended, v1alpha1.ReasonSuspended, FixerLicenseOwner, nil},
		"grace, none": {
			chat().NotAfter(now.Add(-hour)).Grace(2 * hour), grant(), pod, v1alpha1.ReasonInGrace, entitled, FixerLicenseOwner,
			[]string{"ended at 2026-12-01T11:00:00Z", "until 2026-12-01T13:00:00Z", "graceAdmits: All", "acme.example"},
		},
		"grace, all":                               {chat().NotAfter(now.Add(-hour)).Grace(2 * hour).GraceAdmits(v1alpha1.GraceAdmitsAll), grant(), pod, entitled, entitled, "", nil},
		"grace, its first moment":                  {chat().NotAfter(now).Grace(hour), grant(), pod, v1alpha1.ReasonInGrace, entitled, FixerLicenseOwner, nil},
		"grace, its last moment":                   {chat().NotAfter(now.Add(-hour + 1)).Grace(hour), grant(), pod, v1alpha1.ReasonInGrace, entitled, FixerLicenseOwner, nil},
		"grace is over":                            {chat().NotAfter(now.Add(-hour)).Grace(hour).GraceAdmits(v1alpha1.GraceAdmitsAll), grant(), pod, v1alpha1.ReasonExpired, v1alpha1.ReasonExpired, FixerLicenseOwner, []string{"ended at 2026-12-01T12:00:00Z"}},
		"grace before the end":                     {chat().NotAfter(now.Add(1)).Grace(hour), grant(), pod, entitled, entitled, "", nil},
		"a grace period alone":                     {chat().Grace(hour), grant(), pod, entitled, entitled, "", nil},
		"grant, not yet":                           {chat(), grant().NotBefore(now.Add(1)), pod, v1alpha1.ReasonGrantNotYetValid, v1alpha1.ReasonGrantNotYetValid, FixerGrantor, []string{"ml-prod/chat counts only from", "spec.notBefore"}},
		"grant, from this moment":                  {chat(), grant().NotBefore(now), pod, entitled, entitled, "", nil},
		"grant, over":                              {chat(), grant().NotAfter(now), pod, v1alpha1.ReasonGrantExpired, v1alpha1.ReasonGrantExpired, FixerGrantor, []string{"ml-prod/chat ended at 2026-12-01T12:00:00Z", "modellicenses/acme-chat", "spec.notAfter"}},
		"grant, in grace":                          {chat(), grant().NotAfter(now).Grace(hour), pod, v1alpha1.ReasonInGrace, entitled, FixerGrantor, []string{"ModelGrant ml-prod/chat ended", "until 2026-12-01T13:00:00Z", "later spec.notAfter of the grant"}},
		"the licence admits, in the grant's grace": {chat().NotAfter(now).Grace(hour).GraceAdmits(v1alpha1.GraceAdmitsAll), grant().NotAfter(now).Grace(hour), pod, v1alpha1.ReasonInGrace, entitled, FixerGrantor, nil},
		"grant's grace is over":                    {chat(), grant().NotAfter(now.Add(-hour)).Grace(hour), pod, v1alpha1.ReasonGrantExpired, v1alpha1.ReasonGrantExpired, FixerGrantor, nil},
		"the grant ends first":                     {chat().NotAfter(now.Add(hour)), grant().NotAfter(now), pod, v1alpha1.ReasonGrantExpired, v1alpha1.ReasonGrantExpired, FixerGrantor, nil},
		"the grant outlives nothing":               {chat().NotAfter(now), grant().NotAfter(now.Add(hour)), pod, v1alpha1.ReasonExpired, v1alpha1.ReasonExpired, FixerLicenseOwner, nil},

		"node selector":                        {chat().NodeSelector("region", "eu"), grant(), pod, entitled, entitled, "", nil},
		"node selector, the pod's is the same": {chat().NodeSelector("region", "eu"), grant(), server().Container("main", chatImage).NodeSelector("region", "eu"), entitled, entitled, "", nil},
		"node selector, the pod's is another": {
			chat().NodeSelector("region", "eu").NodeSelector("zone", "1"), grant(), server().Container("main", chatImage).NodeSelector("region", "us").NodeSelector("zone", "1"),
			v1alpha1.ReasonNodeSelectorConflict, entitled, FixerPodAuthor, []string{"region=eu", "wants us", "remove region"},
		},
		"devices":                           {chat().Limits("nvidia.com/gpu", "8"), grant(), server().Container("main", chatImage).Requests("main", "nvidia.com/gpu", "1"), entitled, entitled, "", nil},
		"claims where no device is limited": {chat().Limits("pods", "8"), grant(), server().Container("main", chatImage).ResourceClaim("gpu", "gpu", "main"), entitled, entitled, "", nil},
		"claims": {
			chat().Limits("nvidia.com/gpu", "8"), grant(), server().Container("main", chatImage).ResourceClaim("gpu", "gpu", "main"),
			v1alpha1.ReasonUncountableDevice, entitled, FixerPodAuthor, []string{"cannot count", "terms.limits", "acme.example"},
		},
		"a slice": {
			chat().Limits("nvidia.com/gpu", "8"), grant(), server().Container("main", chatImage).Requests("main", "nvidia.com/mig-1g.5gb", "1"),
			v1alpha1.ReasonUncountableDevice, entitled, FixerPodAuthor, []string{"nvidia.com/mig-1g.5gb"},
		},
		"a slice that is listed": {
			chat().Limits("nvidia.com/gpu", "8", "nvidia.com/mig-1g.5gb", "8"), grant(), server().Container("main", chatImage).Requests("main", "nvidia.com/mig-1g.5gb", "1"), entitled, entitled, "", nil,
		},
		"a slice, the grant limits": {
			chat(), grant().Limits("nvidia.com/gpu", "8"), server().Container("main", chatImage).Requests("main", "nvidia.com/mig-1g.5gb", "1"),
			v1alpha1.ReasonUncountableDevice, entitled, FixerPodAuthor, []string{"nvidia.com/mig-1g.5gb"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := snapshot(t, test.license.Obj(), test.grant.Obj())
			asked := podOf(test.pod)
			d := DecidePod(asked, s, now)[0]
			if d.Reason != test.fresh || d.Fixer() != test.fixer {
				t.Errorf("a new pod: %s (%s), to be fixed by %q; want %s by %q", d.Reason, d.Message(), d.Fixer(), test.fresh, test.fixer)
			}
			for _, part := range test.says {
				if text := d.Message() + "\n" + d.Remedy(); !strings.Contains(text, part) {
					t.Errorf("%q does not say %q", text, part)
				}
			}
			asked.Held = true
			if d := DecidePod(asked, s, now)[0]; d.Reason != test.holder {
				t.Errorf("a pod with seats: %s (%s), want %s", d.Reason, d.Message(), test.holder)
			}
		})
	}
}

// TestNextLicenseTakesOver: what one licence's terms refuse, another may allow.
func TestNextLicenseTakesOver(t *testing.T) {
	other := builders.License("b-chat").Repository("registry.example.com/models/chat").Namespaces("ml-prod")
	s := snapshot(t, chat().NodeSelector("region", "eu").Obj(), grantOf("acme-chat"), other.Obj(), grantOf("b-chat"))
	pod := podOf(server().Container("main", chatImage).NodeSelector("region", "us"))
	if used := DecidePod(pod, s, now).Licenses(); len(used) != 1 || used[0].License.Name != "b-chat" {
		t.Errorf("used %+v", used)
	}
}

func TestDecideNode(t *testing.T) {
	use := LicenseUse{License: chat().NodeSelector("region", "eu").NodeSelector("example.com/secure", "").Obj()}
	for name, test := range map[string]struct {
		labels map[string]string
		says   []string
	}{
		"has them":        {map[string]string{"region": "eu", "example.com/secure": "", "a": "b"}, nil},
		"has another":     {map[string]string{"region": "us", "example.com/secure": ""}, []string{"region=eu"}},
		"lacks an empty":  {map[string]string{"region": "eu"}, []string{"example.com/secure="}},
		"has none at all": {nil, []string{"region=eu", "example.com/secure="}},
	} {
		refusal := DecideNode(use, test.labels)
		if (refusal != nil) != (test.says != nil) {
			t.Errorf("%s: %+v", name, refusal)
		}
		for _, part := range test.says {
			if refusal.Reason != v1alpha1.ReasonNodeNotAllowed || refusal.Remedy == "" || !strings.Contains(refusal.Message, part) {
				t.Errorf("%s: %+v does not say %q", name, refusal, part)
			}
		}
	}
	if refusal := DecideNode(LicenseUse{License: chat().Obj()}, nil); refusal != nil {
		t.Errorf("a licence for every node: %+v", refusal)
	}
}

func TestValidity(t *testing.T) {
	at := func(hours int) time.Time { return now.Add(time.Duration(hours) * time.Hour) }
	none := time.Time{}
	grant := func() *builders.GrantBuilder { return builders.Grant("ml-prod", "chat", "acme-chat") }
	for name, test := range map[string]struct {
		license                 *builders.LicenseBuilder
		grant                   *builders.GrantBuilder
		from, until, graceUntil time.Time
		next                    []time.Time // after each other, from now on
	}{
		"always":       {chat(), grant(), none, none, none, nil},
		"no grant":     {chat().NotBefore(at(1)).NotAfter(at(2)).Grace(time.Hour), nil, at(1), at(2), at(3), []time.Time{at(1), at(2), at(3)}},
		"narrower":     {chat().NotBefore(at(1)).NotAfter(at(9)), grant().NotBefore(at(2)).NotAfter(at(8)), at(2), at(8), at(8), []time.Time{at(1), at(2), at(8), at(9)}},
		"wider":        {chat().NotBefore(at(2)).NotAfter(at(8)), grant().NotBefore(at(1)).NotAfter(at(9)), at(2), at(8), at(8), []time.Time{at(1), at(2), at(8), at(9)}},
		"longer grace": {chat().NotAfter(at(8)).Grace(time.Hour), grant().NotAfter(at(7)).Grace(9 * time.Hour), none, at(7), at(9), []time.Time{at(7), at(8), at(9), at(16)}},
		"past":         {chat().NotAfter(at(-2)).Grace(time.Hour), grant(), none, at(-2), at(-1), nil},
		"in grace":     {chat().NotAfter(at(-2)).Grace(3 * time.Hour), grant(), none, at(-2), at(1), []time.Time{at(1)}},
		"now":          {chat().NotAfter(now), grant().NotBefore(now), now, now, now, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var g *v1alpha1.ModelGrant
			if test.grant != nil {
				g = test.grant.Obj()
			}
			from, until, graceUntil := Validity(test.license.Obj(), g)
			if !from.Equal(test.from) || !until.Equal(test.until) || !graceUntil.Equal(test.graceUntil) {
				t.Errorf("from %s until %s, in grace until %s", from, until, graceUntil)
			}
			next := now
			for _, want := range test.next {
				if next = NextChange(test.license.Obj(), g, next); !next.Equal(want) {
					t.Fatalf("next change %s, want %s", next, want)
				}
			}
			if more := NextChange(test.license.Obj(), g, next); !more.IsZero() {
				t.Errorf("another change %s", more)
			}
		})
	}
}

// TestNextChangeIsWhenDecisionsChange: between two changes nothing is decided otherwise, and a timer at each misses none.
func TestNextChangeIsWhenDecisionsChange(t *testing.T) {
	l := chat().NotBefore(now.Add(time.Hour)).NotAfter(now.Add(5 * time.Hour)).Grace(3 * time.Hour).Obj()
	g := builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").NotBefore(now.Add(2 * time.Hour)).NotAfter(now.Add(4 * time.Hour)).Grace(2 * time.Hour).Obj()
	s := snapshot(t, l, g)
	for _, held := range []bool{false, true} {
		request := Request{Image: chatImage, Namespace: "ml-prod", ServiceAccount: "llm", Held: held}
		last, next := Decide(request, s, now).Reason, NextChange(l, g, now)
		for at := now; at.Before(now.Add(10 * time.Hour)); at = at.Add(10 * time.Minute) {
			if !next.IsZero() && !at.Before(next) {
				last, next = Decide(request, s, at).Reason, NextChange(l, g, at)
			}
			if got := Decide(request, s, at).Reason; got != last {
				t.Fatalf("at %s decided %s, before %s, and no change was foretold", at, got, last)
			}
		}
	}
}
