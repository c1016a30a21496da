package entitlement

import (
	"slices"
	"strings"
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

func TestNeedsGate(t *testing.T) {
	relaxedChat := func(mode v1alpha1.EnforcementMode) *v1alpha1.ModelLicense { return chat().Enforcement(mode).Obj() }
	also := func(mode v1alpha1.EnforcementMode) *v1alpha1.ModelLicense {
		return builders.License("b-chat").Repository("registry.example.com/models/chat").Enforcement(mode).Obj()
	}
	for name, test := range map[string]struct {
		pod     *builders.PodBuilder
		objects []any
		want    bool
	}{
		"plain":                         {server().Container("main", "busybox"), []any{chat().Obj()}, false},
		"nothing is governed":           {server().Container("main", chatImage), nil, false},
		"entitled":                      {server().Container("main", chatImage), []any{chat().Obj(), grantOf("acme-chat")}, true},
		"not entitled":                  {server().Container("main", chatImage), []any{chat().Obj()}, true},
		"suspended":                     {server().Container("main", chatImage), []any{chat().Suspended().Obj()}, true},
		"init container":                {server().InitContainer("i", chatImage).Container("main", "busybox"), []any{chat().Obj()}, true},
		"image volume":                  {server().Container("main", "busybox").ImageVolume("w", chatImage), []any{chat().Obj()}, true},
		"argument":                      {server().Container("main", "busybox").Args("main", "oci://"+chatImage), []any{chat().Obj()}, true},
		"ephemeral container":           {server().Container("main", "busybox").EphemeralContainer("e", chatImage), []any{chat().Obj()}, false},
		"governed, unlicensed":          {server().Container("main", "registry.example.com/governed/x"), []any{chat().Obj()}, false},
		"image's ID":                    {server().Container("main", "sha256:0"), []any{chat().Obj()}, false},
		"Enforce":                       {server().Container("main", chatImage), []any{relaxedChat(v1alpha1.EnforcementEnforce)}, true},
		"Warn":                          {server().Container("main", chatImage), []any{relaxedChat(v1alpha1.EnforcementWarn), grantOf("acme-chat")}, false},
		"Audit":                         {server().Container("main", chatImage), []any{relaxedChat(v1alpha1.EnforcementAudit)}, false},
		"Audit and Warn":                {server().Container("main", chatImage), []any{relaxedChat(v1alpha1.EnforcementAudit), also(v1alpha1.EnforcementWarn)}, false},
		"Warn, and another enforces":    {server().Container("main", chatImage), []any{relaxedChat(v1alpha1.EnforcementWarn), also(v1alpha1.EnforcementEnforce)}, true},
		"Warn, and one of the past":     {server().Container("main", chatImage), []any{relaxedChat(v1alpha1.EnforcementWarn), also("")}, true},
		"Warn beside another's image":   {server().Container("main", chatImage).Container("code", codeImage), []any{relaxedChat(v1alpha1.EnforcementWarn), code().Obj()}, true},
		"more texts than are looked at": {server().Container("main", "busybox").Args("main", strings.Repeat("oci://a.b/c ", 600)), []any{chat().Obj()}, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod, s := podOf(test.pod), snapshot(t, test.objects...)
			if got := NeedsGate(pod, s); got != test.want {
				t.Errorf("needs a gate: %t", got)
			}
			if got := DecidePod(pod, s, now).NeedsGate(); got != test.want {
				t.Errorf("needs a gate by its decision: %t", got)
			}
		})
	}
}

func TestTolerated(t *testing.T) {
	mode := func(name string, mode v1alpha1.EnforcementMode) *v1alpha1.ModelLicense {
		return builders.License(name).Repository("registry.example.com/models/chat").Enforcement(mode).Obj()
	}
	const warn, audit, enforce = v1alpha1.EnforcementWarn, v1alpha1.EnforcementAudit, v1alpha1.EnforcementEnforce
	for name, test := range map[string]struct {
		image     string
		objects   []any
		mode      v1alpha1.EnforcementMode
		tolerated bool
	}{
		"Enforce":             {chatImage, []any{mode("a", enforce)}, enforce, false},
		"Warn":                {chatImage, []any{mode("a", warn)}, warn, true},
		"Audit":               {chatImage, []any{mode("a", audit)}, audit, true},
		"Audit and Warn":      {chatImage, []any{mode("a", audit), mode("b", warn)}, warn, true},
		"Warn and Audit":      {chatImage, []any{mode("a", warn), mode("b", audit)}, warn, true},
		"Audit and Enforce":   {chatImage, []any{mode("a", audit), mode("b", enforce)}, enforce, false},
		"Warn and none":       {chatImage, []any{mode("a", warn), mode("b", "")}, enforce, false},
		"entitled":            {chatImage, []any{mode("a", warn), grantOf("a")}, warn, false},
		"unlicensed":          {"registry.example.com/governed/x", []any{mode("a", warn)}, "", false},
		"image's ID":          {"sha256:0", []any{mode("a", warn)}, "", false},
		"not governed at all": {"busybox", []any{mode("a", warn)}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			decided := DecidePod(podOf(server().Container("main", test.image)), snapshot(t, test.objects...), now)
			if d := decided[0]; d.Enforcement != test.mode || d.Tolerated != test.tolerated {
				t.Errorf("enforcement %q, tolerated %t", d.Enforcement, d.Tolerated)
			}
			if refused, denied := len(decided.Refused()), len(decided.Denied()); test.tolerated && (refused != 1 || denied != 0) || !test.tolerated && refused != denied {
				t.Errorf("%d refused, %d denied", refused, denied)
			}
		})
	}
}

func TestDecideStart(t *testing.T) {
	granted := []any{chat().NodeSelector("region", "eu").Obj(), code().Obj(), grantOf("acme-chat")}
	relaxed := []any{chat().NodeSelector("region", "eu").Enforcement(v1alpha1.EnforcementWarn).Obj(), grantOf("acme-chat")}
	pod := func() *builders.PodBuilder { return server().Container("main", chatImage) }
	for name, test := range map[string]struct {
		pod     *builders.PodBuilder
		objects []any
		want    []v1alpha1.Reason
	}{
		"as the webhook makes it": {pod().Gate().NodeSelector("region", "eu"), granted, nil},
		"beside other gates":      {pod().Gate("a/b").Gate().NodeSelector("region", "eu"), granted, nil},
		"no gate":                 {pod().NodeSelector("region", "eu"), granted, []v1alpha1.Reason{v1alpha1.ReasonGateMissing}},
		"another gate":            {pod().Gate("a/b").NodeSelector("region", "eu"), granted, []v1alpha1.Reason{v1alpha1.ReasonGateMissing}},
		"no node selector":        {pod().Gate(), granted, []v1alpha1.Reason{v1alpha1.ReasonNodeSelectorMissing}},
		"neither":                 {pod(), granted, []v1alpha1.Reason{v1alpha1.ReasonGateMissing, v1alpha1.ReasonNodeSelectorMissing}},
		"a node":                  {pod().NodeName("a").NodeSelector("region", "eu"), granted, []v1alpha1.Reason{v1alpha1.ReasonNodeNameSet}},
		"a node and the gate":     {pod().NodeName("a").Gate().NodeSelector("region", "eu"), granted, []v1alpha1.Reason{v1alpha1.ReasonNodeNameSet}},
		"plain":                   {server().Container("main", "busybox").NodeName("a"), granted, nil},
		"denied anyway":           {server().Container("main", codeImage).NodeName("a"), granted, nil},
		"Warn":                    {pod().NodeName("a"), relaxed, nil},
		"Warn, not entitled":      {pod(), relaxed[:1], nil},
		"Warn beside one that enforces": {
			pod().Container("code", codeImage), append([]any{code().Obj(), grantOf("acme-code")}, relaxed...), []v1alpha1.Reason{v1alpha1.ReasonGateMissing},
		},
		"not entitled under Warn, beside one that enforces": {
			pod().Container("code", codeImage), []any{relaxed[0], code().Obj(), grantOf("acme-code")}, []v1alpha1.Reason{v1alpha1.ReasonGateMissing},
		},
	} {
		t.Run(name, func(t *testing.T) {
			asked := podOf(test.pod)
			refusals := DecideStart(asked, DecidePod(asked, snapshot(t, test.objects...), now))
			if got := reasonsOf(refusals); !slices.Equal(got, test.want) {
				t.Errorf("refused %v, want %v", got, test.want)
			}
			for _, r := range refusals {
				if r.Message == "" || r.Remedy == "" || r.License == "" || !strings.HasPrefix(r.Field, "spec.") || FixerOf(r.Reason) == "" {
					t.Errorf("refusal %+v is not explained", r)
				}
			}
		})
	}
}

func TestDecideUngating(t *testing.T) {
	gated, ungated := podOf(server().Container("main", chatImage).Gate("a/b").Gate()), podOf(server().Container("main", chatImage).Gate("a/b"))
	if !RemovesGate(gated.Spec, ungated.Spec) || RemovesGate(gated.Spec, gated.Spec) || RemovesGate(ungated.Spec, gated.Spec) || RemovesGate(ungated.Spec, ungated.Spec) {
		t.Error("a gate that is removed is not seen, or one is seen that is not")
	}
	for name, test := range map[string]struct {
		objects []any
		want    []v1alpha1.Reason
	}{
		"entitled":         {[]any{chat().Obj(), grantOf("acme-chat")}, []v1alpha1.Reason{v1alpha1.ReasonGateRemoved}},
		"not entitled":     {[]any{chat().Obj()}, []v1alpha1.Reason{v1alpha1.ReasonGateRemoved}},
		"Warn":             {[]any{chat().Enforcement(v1alpha1.EnforcementWarn).Obj()}, nil},
		"licence was gone": {nil, nil},
	} {
		refusals := DecideUngating(DecidePod(ungated, snapshot(t, test.objects...), now))
		if got := reasonsOf(refusals); !slices.Equal(got, test.want) {
			t.Errorf("%s: refused %v, want %v", name, got, test.want)
		}
	}
}

// TestBeginning: a pod that runs begins to use no licence any more.
func TestBeginning(t *testing.T) {
	granted := []any{chat().Obj(), code().NodeSelector("region", "eu").Obj(), grantOf("acme-chat"), grantOf("acme-code")}
	relaxed := []any{chat().Enforcement(v1alpha1.EnforcementAudit).Obj(), grantOf("acme-chat")}
	plain := func() *builders.PodBuilder { return server().Container("main", "busybox") }
	for name, test := range map[string]struct {
		old, updated *builders.PodBuilder
		objects      []any
		want         []v1alpha1.Reason
	}{
		"an image":                    {plain(), plain().Image("main", chatImage), granted, []v1alpha1.Reason{v1alpha1.ReasonGateMissing}},
		"an ephemeral container":      {plain(), plain().EphemeralContainer("e", chatImage), granted, []v1alpha1.Reason{v1alpha1.ReasonGateMissing}},
		"one that names it":           {plain(), plain().EphemeralContainer("e", "busybox").Args("e", "oci://"+chatImage), granted, []v1alpha1.Reason{v1alpha1.ReasonGateMissing}},
		"a gate is no seat":           {plain().Gate("a/b"), plain().Gate("a/b").Image("main", chatImage), granted, []v1alpha1.Reason{v1alpha1.ReasonGateMissing}},
		"another licence":             {plain().Image("main", chatImage), plain().Image("main", codeImage), granted, []v1alpha1.Reason{v1alpha1.ReasonGateMissing}},
		"the licence that it uses":    {plain().Image("main", chatImage), plain().Image("main", chatImage+"-next"), granted, nil},
		"the licence that it names":   {plain().Args("main", "oci://"+chatImage), plain().Args("main", "oci://"+chatImage).EphemeralContainer("e", chatImage), granted, nil},
		"in a pod that waits":         {plain().Gate(), plain().Gate().Image("main", chatImage), granted, nil},
		"without its node selector":   {plain().Gate(), plain().Gate().Image("main", codeImage), granted, []v1alpha1.Reason{v1alpha1.ReasonNodeSelectorMissing}},
		"with its node selector":      {plain().Gate().NodeSelector("region", "eu"), plain().Gate().NodeSelector("region", "eu").Image("main", codeImage), granted, nil},
		"a licence that only watches": {plain(), plain().Image("main", chatImage), relaxed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			old, updated := podOf(test.old), podOf(test.updated)
			uses, refusals := DecideUpdate(updated, old.Spec, snapshot(t, test.objects...), now)
			if got := reasonsOf(refusals); !slices.Equal(got, test.want) || len(uses.Refused()) > 0 {
				t.Errorf("refused %v and %+v, want %v", got, uses.Refused(), test.want)
			}
		})
	}
}

func TestResizes(t *testing.T) {
	pod := func() *builders.PodBuilder {
		return server().InitContainer("init", "busybox").Container("main", "busybox").Requests("main", "cpu", "1")
	}
	old := pod().Obj().Spec
	level := pod().Obj().Spec
	level.Resources = pod().Obj().Spec.Containers[0].Resources.DeepCopy()
	for name, test := range map[string]struct {
		updated *builders.PodBuilder
		want    bool
	}{
		"nothing":                {pod(), false},
		"the same otherwise":     {server().InitContainer("init", "busybox").Container("main", "busybox").Requests("main", "cpu", "1000m"), false},
		"an annotation":          {pod().Annotation("a", "b"), false},
		"a container":            {server().InitContainer("init", "busybox").Container("main", "busybox").Requests("main", "cpu", "2"), true},
		"an init container":      {pod().Requests("init", "cpu", "2"), true},
		"an image":               {pod().Image("main", "x"), false},
		"an ephemeral container": {pod().EphemeralContainer("e", "x"), false},
	} {
		if got := Resizes(&old, &test.updated.Obj().Spec); got != test.want {
			t.Errorf("%s: resizes %t", name, got)
		}
	}
	if !Resizes(&old, &level) {
		t.Error("a resize of the whole pod is not seen")
	}
}
