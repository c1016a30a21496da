package entitlement

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/test/builders"
)

// outline is an explanation in short: check=outcome, with the reason where there is one.
func outline(checks []Check) string {
	var parts []string
	for _, c := range checks {
		part := c.Name + "=" + string(c.Outcome)
		if c.Reason != "" {
			part += ":" + string(c.Reason)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " ")
}

func TestExplain(t *testing.T) {
	request := Request{Image: chatImage, Namespace: "ml-prod", ServiceAccount: "llm"}
	of := func(image string) Request {
		r := request
		r.Image = image
		return r
	}
	const licensePassed = "Namespace=passed Suspended=passed NotBefore=passed NotAfter=passed Digest=passed "
	const termsNotReached = "GrantNotBefore=not reached GrantNotAfter=not reached Action=not reached Purpose=not reached Devices=not reached NodeSelector=not reached"
	tests := map[string]struct {
		request Request
		objects []any
		checks  string
		license []string // NAME: checks
		grants  []string // NAME: checks
		fixer   Fixer
	}{
		"entitled": {
			request, []any{chat().Obj(), builders.Grant("ml-prod", "a", "acme-chat").ServiceAccount("web").Obj(), grantOf("acme-chat")},
			"Reference=passed License=passed", []string{"acme-chat: " + licensePassed + "Grant=passed"},
			[]string{
				"a: Subject=failed:SubjectNotGranted PodSelector=not reached " + termsNotReached,
				"acme-chat-grant: Subject=passed PodSelector=passed GrantNotBefore=passed GrantNotAfter=passed Action=passed Purpose=passed Devices=passed NodeSelector=passed",
			}, "",
		},
		"no grant": {
			request, []any{chat().Obj()}, "Reference=passed License=passed", []string{"acme-chat: " + licensePassed + "Grant=failed:NoGrant"}, nil, FixerGrantor,
		},
		"expired": {
			request, []any{chat().NotAfter(now).Obj(), grantOf("acme-chat")}, "Reference=passed License=passed",
			[]string{"acme-chat: Namespace=passed Suspended=passed NotBefore=passed NotAfter=failed:Expired Digest=not reached Grant=not reached"},
			[]string{"acme-chat-grant: Subject=not reached PodSelector=not reached " + termsNotReached}, FixerLicenseOwner,
		},
		"the one that came closest": {
			request, []any{chat().NotAfter(now).Obj(), builders.License("b").Repository("registry.example.com/**").Obj()}, "Reference=passed License=passed",
			[]string{
				"acme-chat: Namespace=passed Suspended=passed NotBefore=passed NotAfter=failed:Expired Digest=not reached Grant=not reached",
				"b: " + licensePassed + "Grant=failed:NoGrant",
			}, nil, FixerGrantor,
		},
		"digest": {
			request, []any{chat().PinDigests().Obj()}, "Reference=passed License=passed",
			[]string{"acme-chat: Namespace=passed Suspended=passed NotBefore=passed NotAfter=passed Digest=failed:DigestNotPinned Grant=not reached"}, nil, FixerPodAuthor,
		},
		"unparsable":   {of("A B"), []any{chat().Obj()}, "Reference=failed:UnparsableImage License=not reached", nil, nil, FixerPodAuthor},
		"image's ID":   {of("sha256:0"), []any{chat().Obj()}, "Reference=failed:ImageID License=not reached", nil, nil, FixerPodAuthor},
		"unlicensed":   {of("registry.example.com/governed/x"), []any{chat().Obj()}, "Reference=passed License=failed:Unlicensed", nil, nil, FixerPlatformTeam},
		"not governed": {of("busybox"), []any{chat().Obj()}, "Reference=passed License=passed:NotGoverned", nil, nil, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := snapshot(t, test.objects...)
			e := Explain(test.request, s, now)
			if got := outline(e.Checks); got != test.checks {
				t.Errorf("checks %s, want %s", got, test.checks)
			}
			var licenses, grants []string
			for _, l := range e.Licenses {
				licenses = append(licenses, l.Name+": "+outline(l.Checks))
				for _, g := range l.Grants {
					grants = append(grants, g.Name+": "+outline(g.Checks))
				}
			}
			if got, want := fmt.Sprint(licenses), fmt.Sprint(test.license); got != want {
				t.Errorf("licences\n%s\nwant\n%s", got, want)
			}
			if got, want := fmt.Sprint(grants), fmt.Sprint(test.grants); got != want {
				t.Errorf("grants\n%s\nwant\n%s", got, want)
			}
			if e.Fixer != test.fixer {
				t.Errorf("fixer %q, want %q", e.Fixer, test.fixer)
			}
			if _, err := json.Marshal(e); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEveryRefusalHasAFixer: nobody is left without somebody to ask.
func TestEveryRefusalHasAFixer(t *testing.T) {
	for _, d := range []Decision{
		{Reason: v1alpha1.ReasonInvalidSelector, Grant: grantOf("acme-chat")}, {Reason: v1alpha1.ReasonInvalidSelector}, {Reason: v1alpha1.ReasonLookupFailed},
	} {
		if d.Fixer() == "" {
			t.Errorf("%s has no fixer", d.Reason)
		}
	}
	if a, b := (Decision{Reason: v1alpha1.ReasonInvalidSelector, Grant: grantOf("x")}).Fixer(), FixerOf(v1alpha1.ReasonInvalidSelector); a != FixerGrantor || b != FixerLicenseOwner {
		t.Errorf("an invalid selector is fixed by %s in a grant, by %s in a licence", a, b)
	}
}

func TestExplainPod(t *testing.T) {
	s := snapshot(t, chat().Obj(), code().Obj(), grantOf("acme-chat"))
	pod := podOf(server().Container("main", chatImage).Args("main", "x", codeURI, "oci://${X}"))
	all := ExplainPod(pod, s, now)
	if len(all) != 2 || all[0].Reason != v1alpha1.ReasonEntitled || all[1].Reason != v1alpha1.ReasonNoGrant || all[1].Use.Confidence != images.Inferred {
		t.Fatalf("explained %+v", all)
	}
	if !strings.Contains(all[1].Message, "inferred from the text of the argument") || len(all[1].Licenses) != 1 {
		t.Errorf("explained %+v", all[1])
	}
	excess := podOf(server().Container("main", "busybox").Args("main", strings.Repeat(chatURI+" ", 600)))
	all = ExplainPod(excess, s, now)
	if last := all[len(all)-1]; last.Reason != v1alpha1.ReasonTooManyReferences || outline(last.Checks) != "Reference=failed:TooManyReferences License=not reached" {
		t.Errorf("the excess is explained as %+v", last)
	}
}

// FuzzExplain holds every explanation to the decision, and to itself.
func FuzzExplain(f *testing.F) {
	for i, image := range []string{chatImage, codeImage, chatImage + "@" + index, chatMirror, "registry.example.com/governed/x", "sha256:0", "busybox", "é", ""} {
		for _, license := range []string{"", "acme-chat", "c"} {
			f.Add(image, "ml-prod", "llm", license, int64(i*1800), uint16(i*4099))
		}
	}
	f.Fuzz(func(t *testing.T, image, namespace, account, license string, seconds int64, shape uint16) {
		at := now.Add(time.Duration(seconds % 7200 * int64(time.Second)))
		r := Request{Image: image, Namespace: namespace, ServiceAccount: account, License: license}
		checkExplained(t, r, shapedSnapshot(t, shape), at)
	})
}

// TestExplanationIsTheDecision goes through snapshots of every kind, ties included.
func TestExplanationIsTheDecision(t *testing.T) {
	for shape := 0; shape < 1<<16; shape += 19 {
		s := shapedSnapshot(t, uint16(shape))
		for _, image := range []string{chatImage, chatImage + "@" + index, chatImage + "@" + forged} {
			for _, at := range []time.Time{now, now.Add(2 * time.Hour)} {
				checkExplained(t, Request{Image: image, Namespace: "ml-prod", ServiceAccount: "llm", Held: shape%2 == 1}, s, at)
			}
		}
	}
}

// checkExplained: the explanation is of the very decision, and holds together.
func checkExplained(t *testing.T, r Request, s *Snapshot, at time.Time) {
	t.Helper()
	d, e := Decide(r, s, at), Explain(r, s, at)
	if fmt.Sprintf("%+v", d) != fmt.Sprintf("%+v", e.Decision) {
		t.Fatalf("decided\n%+v\nexplained\n%+v", d, e.Decision)
	}
	if e.Reason != d.Reason || e.Message != d.Message() || e.Remedy != d.Remedy() || e.Fixer != d.Fixer() || d.Refused() && e.Fixer == "" {
		t.Fatalf("explained in other words: %+v", e)
	}
	entitled := false
	for _, l := range e.Licenses {
		if len(l.Checks) != len(licenseChecks)+1 {
			t.Fatalf("licence %s has %d checks", l.Name, len(l.Checks))
		}
		consistent(t, l.Checks)
		entitled = entitled || l.Checks[len(l.Checks)-1].Outcome == Passed
		for _, g := range l.Grants {
			if len(g.Checks) != len(grantChecks) {
				t.Fatalf("grant %s has %d checks", g.Name, len(g.Checks))
			}
			consistent(t, g.Checks)
		}
	}
	if entitled != d.Entitled() {
		t.Fatalf("a licence entitles: %t, but the decision is %s", entitled, d.Reason)
	}
}

// consistent: nothing passes or fails behind a check that failed, and what failed is explained.
func consistent(t *testing.T, checks []Check) {
	t.Helper()
	over := false
	for _, c := range checks {
		if over && c.Outcome != NotReached || c.Outcome == Failed && (c.Reason == "" || c.Message == "" || c.Remedy == "" || c.Fixer == "") {
			t.Fatalf("checks %+v", checks)
		}
		over = over || c.Outcome != Passed
	}
}

// shapedSnapshot has licences and grants that the bits of shape vary.
func shapedSnapshot(t testing.TB, shape uint16) *Snapshot {
	on := func(bit int) bool { return shape>>bit&1 == 1 }
	a, b, c := resolvedChat().Mirrors(chatMirror), builders.License("b").Repository("registry.example.com/**"), builders.License("c").Repository("registry.example.com/models/*")
	ga, gb := builders.Grant("ml-prod", "ga", "acme-chat").ServiceAccount("web"), builders.Grant("ml-prod", "gb", "b").ServiceAccount("llm")
	if on(0) {
		a = a.Digests(index)
	}
	if on(1) {
		a = a.PinDigests()
	}
	if on(2) {
		a = a.NotAfter(now.Add(time.Hour))
	}
	if on(3) {
		b = b.NotBefore(now.Add(time.Hour))
	}
	if on(4) {
		b = b.PinDigests()
	}
	if on(5) {
		ga = ga.ServiceAccount("llm")
	}
	if on(6) {
		ga = ga.Action(v1alpha1.ActionMerge)
	}
	if on(7) {
		gb = gb.PodSelector(map[string]string{"a": "b"})
	}
	if on(8) {
		gb = gb.Purpose(v1alpha1.PurposeCommercial)
	}
	if on(14) {
		a = a.NotAfter(now.Add(-time.Hour)).Grace(2 * time.Hour)
		gb = gb.NotAfter(now).Grace(time.Hour)
	}
	if on(15) {
		b = b.Enforcement(v1alpha1.EnforcementWarn)
		c = c.Suspended()
		ga = ga.NotBefore(now.Add(time.Hour))
	}
	objects := []any{a.Obj()}
	if on(9) {
		objects = append(objects, ga.Obj(), builders.Grant("ml-prod", "gz", "acme-chat").ServiceAccount("web").Obj())
	}
	if on(10) {
		objects = append(objects, grantOf("acme-chat"))
	}
	if on(11) {
		objects = append(objects, b.Obj(), gb.Obj())
	}
	if on(12) {
		objects = append(objects, c.Obj())
	}
	if on(13) {
		objects = append(objects, grantOf("c"))
	}
	return snapshot(t, objects...)
}
