package webhooks

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
)

// TestMutateStart: what a pod needs to wait for its seats, and no more.
func TestMutateStart(t *testing.T) {
	selecting := chat().NodeSelector("example.com/re~gion", "eu").NodeSelector("zone", "1").Obj()
	both := []any{selecting, code().NodeSelector("zone", "2").NodeSelector("code", "").Obj(), grantOf("acme-chat"), grantOf("acme-code")}
	pod := func() *builders.PodBuilder { return server().Container("main", chatImage) }
	tests := map[string]struct {
		pod      *builders.PodBuilder
		objects  []any
		gates    []string
		selector map[string]string
	}{
		"plain":           {server().Container("main", "busybox"), both, nil, nil},
		"entitled":        {pod(), both[:3], []string{v1alpha1.SeatGate}, map[string]string{"example.com/re~gion": "eu", "zone": "1"}},
		"not entitled":    {pod(), both[:2], []string{v1alpha1.SeatGate}, nil},
		"after others":    {pod().Gate("a/b", "c/d"), both[:3], []string{"a/b", "c/d", v1alpha1.SeatGate}, map[string]string{"example.com/re~gion": "eu", "zone": "1"}},
		"has them":        {pod().Gate().NodeSelector("example.com/re~gion", "eu").NodeSelector("zone", "1"), both[:3], []string{v1alpha1.SeatGate}, map[string]string{"example.com/re~gion": "eu", "zone": "1"}},
		"has some":        {pod().NodeSelector("zone", "1").NodeSelector("own", "x"), both[:3], []string{v1alpha1.SeatGate}, map[string]string{"example.com/re~gion": "eu", "zone": "1", "own": "x"}},
		"wants another":   {pod().NodeSelector("zone", "9"), both[:3], []string{v1alpha1.SeatGate}, map[string]string{"zone": "9"}},
		"names its node":  {pod().NodeName("a"), both[:3], nil, map[string]string{"example.com/re~gion": "eu", "zone": "1"}},
		"licences differ": {pod().Container("code", codeImage), both, []string{v1alpha1.SeatGate}, map[string]string{"example.com/re~gion": "eu", "zone": "1", "code": ""}},
		"Warn, entitled":  {pod(), []any{chat().NodeSelector("zone", "1").Enforcement(v1alpha1.EnforcementWarn).Obj(), grantOf("acme-chat")}, nil, map[string]string{"zone": "1"}},
		"Audit, refused":  {pod(), []any{chat().NodeSelector("zone", "1").Enforcement(v1alpha1.EnforcementAudit).Obj()}, nil, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, knows(t, test.objects...))
			req := create(t, test.pod)
			for range 2 { // The second time is the reinvocation, which finds everything done.
				response := h.mutate.Handle(context.Background(), req)
				if !response.Allowed {
					t.Fatalf("denied: %+v", response.Result)
				}
				req.Object.Raw = applyPatch(t, req.Object.Raw, response.Patch)
				var got corev1.Pod
				if err := yaml.UnmarshalStrict(req.Object.Raw, &got); err != nil {
					t.Fatal(err)
				}
				var gates []string
				for _, g := range got.Spec.SchedulingGates {
					gates = append(gates, g.Name)
				}
				if strings.Join(gates, " ") != strings.Join(test.gates, " ") {
					t.Errorf("gates %v, want %v", gates, test.gates)
				}
				if !equality.Semantic.DeepEqual(got.Spec.NodeSelector, test.selector) {
					t.Errorf("node selector %v, want %v", got.Spec.NodeSelector, test.selector)
				}
			}
		})
	}
}

func TestValidateStart(t *testing.T) {
	granted := []any{chat().NodeSelector("region", "eu").Obj(), grantOf("acme-chat")}
	pod := func() *builders.PodBuilder { return server().Container("main", chatImage) }
	tests := map[string]struct {
		rights *fakeRights
		pod    *builders.PodBuilder
		want   v1alpha1.Reason
	}{
		"gate and selector":      {knows(t, granted...), pod().Gate().NodeSelector("region", "eu"), ""},
		"a stale mutating cache": {knows(t, granted...), pod(), v1alpha1.ReasonGateMissing},
		"no selector":            {knows(t, granted...), pod().Gate(), v1alpha1.ReasonNodeSelectorMissing},
		"another selector":       {knows(t, granted...), pod().Gate().NodeSelector("region", "us"), v1alpha1.ReasonNodeSelectorConflict},
		"a node":                 {knows(t, granted...), pod().NodeName("a").NodeSelector("region", "eu"), v1alpha1.ReasonNodeNameSet},
		"the licence relaxed a moment ago": {
			&fakeRights{cached: snapshot(t, granted...), live: snapshot(t, chat().Enforcement(v1alpha1.EnforcementAudit).Obj(), grantOf("acme-chat"))}, pod(), "",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, test.rights)
			if got := reasonOf(t, h.validate.Handle(context.Background(), create(t, test.pod))); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// TestStaleMutator: a pod that one replica let pass without the gate, since it did not know the licence yet, is refused by
// another that does, and comes through when it is tried again.
func TestStaleMutator(t *testing.T) {
	rights := &fakeRights{cached: snapshot(t), live: snapshot(t)}
	stale, fresh := newHooks(t, rights), newHooks(t, knows(t, chat().Obj(), grantOf("acme-chat")))
	try := func() admission.Response {
		req := create(t, server().Container("main", chatImage))
		response := stale.mutate.Handle(context.Background(), req)
		req.Object.Raw = applyPatch(t, req.Object.Raw, response.Patch)
		return fresh.validate.Handle(context.Background(), req)
	}
	refused := try()
	if got := reasonOf(t, refused); got != v1alpha1.ReasonGateMissing || !strings.Contains(refused.Result.Message, "try again") {
		t.Errorf("%q: %+v", got, refused.Result)
	}
	rights.cached = fresh.rights.cached
	if again := try(); !again.Allowed {
		t.Errorf("denied when tried again: %+v", again.Result)
	}
}

func TestGateIsTheOperators(t *testing.T) {
	gated := func() *builders.PodBuilder { return server().Container("main", chatImage).Gate("a/b").Gate() }
	free := func() *builders.PodBuilder { return server().Container("main", chatImage).Gate("a/b") }
	unreachable := &fakeRights{unsynced: true, liveErr: errUnreachable}
	tests := map[string]struct {
		rights       *fakeRights
		user         string
		old, updated *builders.PodBuilder
		want         v1alpha1.Reason
	}{
		"a tenant":                             {knows(t, chat().Obj(), grantOf("acme-chat")), "ada", gated(), free(), v1alpha1.ReasonGateRemoved},
		"cluster-admin":                        {knows(t, chat().Obj(), grantOf("acme-chat")), "kubernetes-admin", gated(), free(), v1alpha1.ReasonGateRemoved},
		"the same name in another namespace":   {knows(t, chat().Obj(), grantOf("acme-chat")), "system:serviceaccount:ml-prod:modelrights-operator", gated(), free(), v1alpha1.ReasonGateRemoved},
		"with all the others":                  {knows(t, chat().Obj(), grantOf("acme-chat")), "ada", gated(), server().Container("main", chatImage), v1alpha1.ReasonGateRemoved},
		"the operator":                         {knows(t, chat().Obj(), grantOf("acme-chat")), operatorUser, gated(), free(), ""},
		"the operator, who knows nothing":      {unreachable, operatorUser, gated(), free(), ""},
		"a tenant, while nothing can be read":  {unreachable, "ada", gated(), free(), v1alpha1.ReasonLookupFailed},
		"revoked":                              {knows(t, chat().Obj()), "ada", gated(), free(), v1alpha1.ReasonNoGrant},
		"another gate":                         {knows(t, chat().Obj(), grantOf("acme-chat")), "ada", gated(), server().Container("main", chatImage).Gate(), ""},
		"the licence is gone":                  {knows(t, code().Obj()), "ada", gated(), free(), ""},
		"the licence only watches":             {knows(t, chat().Enforcement(v1alpha1.EnforcementAudit).Obj(), grantOf("acme-chat")), "ada", gated(), free(), ""},
		"the image leaves with the gate":       {knows(t, chat().Obj(), grantOf("acme-chat")), "ada", gated(), free().Image("main", "busybox"), ""},
		"the pod is being deleted":             {unreachable, "ada", gated().Deleted(now), free().Deleted(now), ""},
		"a licence that covers it came behind": {&fakeRights{cached: snapshot(t, chat().Obj()), live: snapshot(t, chat().Obj(), grantOf("acme-chat"))}, "ada", gated(), free(), v1alpha1.ReasonGateRemoved},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, test.rights)
			req := update(t, "", test.old, test.updated)
			req.UserInfo.Username = test.user
			response := h.validate.Handle(context.Background(), req)
			if got := reasonOf(t, response); got != test.want {
				t.Errorf("%q (%+v), want %q", got, response.Result, test.want)
			}
		})
	}
}

// TestUngatingIsConfirmed: memory that is behind lets no pod go without its seat. Where nothing can be read, the gate stays,
// unless nothing is governed at all; and the operator, deletions and everything else wait for no read.
func TestUngatingIsConfirmed(t *testing.T) {
	gated := func() *builders.PodBuilder { return server().Container("main", chatImage).Gate() }
	free := func() *builders.PodBuilder { return server().Container("main", chatImage) }
	enforces := snapshot(t, chat().Obj(), grantOf("acme-chat"))
	watches := snapshot(t, chat().Enforcement(v1alpha1.EnforcementWarn).Obj(), grantOf("acme-chat"))
	unlicensed := snapshot(t, code().Obj())
	nothing, err := entitlement.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		rights       *fakeRights
		user         string
		old, updated *builders.PodBuilder
		want         v1alpha1.Reason
		reads        int
	}{
		"memory lacks the licence":                    {&fakeRights{cached: unlicensed, live: enforces}, "ada", gated(), free(), v1alpha1.ReasonGateRemoved, 1},
		"memory has nothing":                          {&fakeRights{cached: nothing, live: enforces}, "ada", gated(), free(), v1alpha1.ReasonGateRemoved, 1},
		"the licence began to enforce":                {&fakeRights{cached: watches, live: enforces}, "ada", gated(), free(), v1alpha1.ReasonGateRemoved, 1},
		"the licence still watches":                   {&fakeRights{cached: watches, live: watches}, "ada", gated(), free(), "", 1},
		"no licence, nor live":                        {&fakeRights{cached: unlicensed, live: unlicensed}, "ada", gated(), free(), "", 1},
		"the licence ceased to enforce":               {&fakeRights{cached: enforces, live: watches}, "ada", gated(), free(), "", 1},
		"no licence in memory, nothing can be read":   {&fakeRights{cached: unlicensed, liveErr: errUnreachable}, "ada", gated(), free(), v1alpha1.ReasonLookupFailed, 1},
		"it watches in memory, nothing can be read":   {&fakeRights{cached: watches, liveErr: errUnreachable}, "ada", gated(), free(), v1alpha1.ReasonLookupFailed, 1},
		"labels cannot be read":                       {&fakeRights{cached: unlicensed, live: unlicensed, liveLabelsErr: errUnreachable}, "ada", gated(), free(), v1alpha1.ReasonLookupFailed, 1},
		"nothing is governed, nothing can be read":    {&fakeRights{cached: nothing, liveErr: errUnreachable, cachedLabelsErr: errUnreachable}, "ada", gated(), free(), "", 1},
		"the operator, nothing can be read":           {&fakeRights{cached: unlicensed, liveErr: errUnreachable}, operatorUser, gated(), free(), "", 0},
		"a pod that is going, nothing can be read":    {&fakeRights{cached: unlicensed, liveErr: errUnreachable}, "ada", gated().Deleted(now), free().Deleted(now), "", 0},
		"a gate of others, nothing can be read":       {&fakeRights{cached: unlicensed, liveErr: errUnreachable}, "ada", free().Gate("a/b"), free(), "", 0},
		"another update, nothing can be read":         {&fakeRights{cached: unlicensed, liveErr: errUnreachable}, "ada", gated(), gated().Annotation("a", "b"), "", 0},
		"a pod without the gate, nothing can be read": {&fakeRights{cached: unlicensed, liveErr: errUnreachable}, "ada", server().Container("main", "busybox"), server().Container("main", "alpine"), "", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, test.rights)
			req := update(t, "", test.old, test.updated)
			req.UserInfo.Username = test.user
			response := h.validate.Handle(context.Background(), req)
			if got := reasonOf(t, response); got != test.want {
				t.Errorf("%q (%+v), want %q", got, response.Result, test.want)
			}
			if test.rights.liveReads != test.reads {
				t.Errorf("%d live reads, want %d", test.rights.liveReads, test.reads)
			}
		})
	}
}

func TestTolerated(t *testing.T) {
	license := func(mode v1alpha1.EnforcementMode) *v1alpha1.ModelLicense { return chat().Enforcement(mode).Obj() }
	warn, audit := license(v1alpha1.EnforcementWarn), license(v1alpha1.EnforcementAudit)
	pod := func() *builders.PodBuilder { return server().Container("main", chatImage) }
	tests := map[string]struct {
		rights   *fakeRights
		pod      *builders.PodBuilder
		want     v1alpha1.Reason
		warnings string // in the warnings; empty: there are none
	}{
		"Warn":                       {knows(t, warn), pod(), "", "not entitled, and admitted all the same [NoGrant]"},
		"Warn, its own key volume":   {knows(t, warn), pod().KeyVolume("acme-chat", "main"), "", "[NoGrant]"},
		"Audit":                      {knows(t, audit), pod(), "", ""},
		"Audit, its own key volume":  {knows(t, audit), pod().KeyVolume("acme-chat", "main"), "", ""},
		"Warn, entitled":             {knows(t, warn, grantOf("acme-chat")), pod(), "", ""},
		"Warn, granted a moment ago": {&fakeRights{cached: snapshot(t, warn), live: snapshot(t, warn, grantOf("acme-chat"))}, pod(), "", ""},
		"Warn, live read fails":      {&fakeRights{cached: snapshot(t, warn), liveErr: errUnreachable}, pod(), "", "[NoGrant]"},
		"Warn, live read fails, namespace unknown": {
			&fakeRights{cached: snapshot(t, warn), liveErr: errUnreachable, cachedLabelsErr: errUnreachable}, pod(), "", "[LookupFailed]",
		},
		"enforced a moment ago": {&fakeRights{cached: snapshot(t, warn), live: snapshot(t, chat().Obj())}, pod(), v1alpha1.ReasonNoGrant, ""},
		"Warn beside a denied image": {
			knows(t, warn, code().Obj()), pod().Container("code", codeImage).Gate(), v1alpha1.ReasonNoGrant, "",
		},
		"Warn beside an entitled image, live read fails": {
			&fakeRights{cached: snapshot(t, warn, code().Obj(), grantOf("acme-code")), liveErr: errUnreachable}, pod().Container("code", codeImage).Gate(), "", "[NoGrant]",
		},
		"Warn, a volume of no form": {knows(t, warn), pod().KeyVolumeNamed("v", ""), v1alpha1.ReasonKeyVolumeInvalid, ""},
		"Warn, a node":              {knows(t, warn, grantOf("acme-chat")), pod().NodeName("a"), "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, test.rights)
			if r := h.mutate.Handle(context.Background(), create(t, test.pod)); !r.Allowed {
				t.Errorf("the mutating webhook denied: %+v", r.Result)
			}
			response := h.validate.Handle(context.Background(), create(t, test.pod))
			if got := reasonOf(t, response); got != test.want {
				t.Errorf("%q (%+v), want %q", got, response.Result, test.want)
			}
			warnings := strings.Join(response.Warnings, "\n")
			if !strings.Contains(warnings, test.warnings) || test.warnings == "" && warnings != "" {
				t.Errorf("warnings %q, want %q", warnings, test.warnings)
			}
			for _, w := range response.Warnings {
				if len(w) > maxWarning {
					t.Errorf("a warning of %d bytes", len(w))
				}
			}
			if test.want == "" && len(*h.denials) > 0 {
				t.Errorf("told of a denial: %+v", *h.denials)
			}
			if test.want != "" && strings.Contains(response.Result.Message, chatImage) && strings.Contains(name, "beside") {
				t.Errorf("what is tolerated is told as a reason: %s", response.Result.Message)
			}
		})
	}
}
