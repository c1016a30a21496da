package controllers

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// heldLedgers are ledgers of licences, by name.
type heldLedgers map[string]*seats.Ledger

func (l heldLedgers) Ledger(license string) *seats.Ledger { return l[license] }
func (l heldLedgers) Licenses() []string                  { return slices.Sorted(maps.Keys(l)) }
func (l heldLedgers) Subscribe(func(string))              {}
func (l heldLedgers) Synced() bool                        { return true }
func (l heldLedgers) LicensesOf(pod types.UID) []string {
	var names []string
	for name, ledger := range l {
		if _, ok := ledger.Holder(pod); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// holds gives a pod a seat of a licence.
func (l heldLedgers) holds(t *testing.T, license *v1alpha1.ModelLicense, pod *corev1.Pod, change func(*seats.Take)) {
	t.Helper()
	if l[license.Name] == nil {
		l[license.Name] = seats.Empty(license)
	}
	take := seats.Take{Pod: pod.UID, Grant: seats.Grant{Namespace: pod.Namespace, Name: "g", UID: "g-uid"}, Generation: license.Generation, Since: noon}
	if change != nil {
		change(&take)
	}
	results := l[license.Name].Apply(seats.Limit{License: license, Confirmed: true}, take)
	if reason := results[1].Reason; reason != "" {
		t.Fatalf("the pod gets no seat: %s %s", reason, results[1].Message)
	}
}

func podOnNode(images ...string) *corev1.Pod {
	b := builders.Pod("ml", "llm").UID("00000000-0000-4000-8000-000000000001").ServiceAccount("llm").Label("app", "llm").NodeName("n1")
	for i, image := range images {
		b = b.Container(string(rune('a'+i)), image)
	}
	return b.Obj()
}

// TestEvictsByLedger: of a licence that is gone and was never seen, its ledger's word counts; of others, their own.
func TestEvictsByLedger(t *testing.T) {
	kept := seats.TermsOf
	wipes := builders.License("chat").UID("l-uid").OnRevoke(v1alpha1.RevokeWipeKey).Obj()
	warns := builders.License("chat").UID("l-uid").Enforcement(v1alpha1.EnforcementWarn).Obj()
	evicts := builders.License("chat").UID("l-uid").Obj()
	for name, test := range map[string]struct {
		last  *v1alpha1.ModelLicense
		terms seats.Terms
		want  bool
	}{
		"nothing is known":                      {nil, seats.Terms{}, true},
		"the ledger says Evict":                 {nil, kept(evicts), true},
		"the ledger says WipeKey":               {nil, kept(wipes), false},
		"the ledger says Warn":                  {nil, kept(warns), false},
		"the licence was seen, it says Evict":   {evicts, kept(wipes), true},
		"the licence was seen, it says WipeKey": {wipes, kept(evicts), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := world{}
			lost := lossesOf(podOnNode(chatImage), []heldSeat{{license: "chat", terms: test.terms}}, rightsFacts{
				snapshot: w.snapshot(t), now: noon, last: func(string) *v1alpha1.ModelLicense { return test.last },
			})
			if len(lost) != 1 || lost[0].evicts() != test.want {
				t.Errorf("lost %+v, want evicts %t", lost, test.want)
			}
		})
	}
}

func TestLosses(t *testing.T) {
	license := func() *builders.LicenseBuilder {
		return builders.License("chat").Repository("registry.example.com/models/chat").UID("l-uid").Generation(3)
	}
	grant := func() *builders.GrantBuilder { return builders.Grant("ml", "g", "chat").ServiceAccount("llm") }
	inForce := license().Obj()
	tests := map[string]struct {
		license *v1alpha1.ModelLicense // nil: it is gone
		grant   *v1alpha1.ModelGrant   // nil: it is gone
		pod     func(*corev1.Pod)
		node    map[string]string // nil: the node is not known
		at      time.Duration
		reason  v1alpha1.Reason // empty: the pod is entitled
	}{
		"entitled":                   {license: inForce, grant: grant().Obj()},
		"the licence is gone":        {grant: grant().Obj(), reason: v1alpha1.ReasonLicenseMissing},
		"the grant is gone":          {license: inForce, reason: v1alpha1.ReasonNoGrant},
		"suspended":                  {license: license().Suspended().Obj(), grant: grant().Obj(), reason: v1alpha1.ReasonSuspended},
		"over":                       {license: license().NotAfter(noon).Obj(), grant: grant().Obj(), reason: v1alpha1.ReasonExpired},
		"over, in grace":             {license: license().NotAfter(noon).Grace(time.Hour).Obj(), grant: grant().Obj(), at: time.Hour - 1},
		"over, and grace":            {license: license().NotAfter(noon).Grace(time.Hour).Obj(), grant: grant().Obj(), at: time.Hour, reason: v1alpha1.ReasonExpired},
		"the grant is over":          {license: inForce, grant: grant().NotAfter(noon).Obj(), reason: v1alpha1.ReasonGrantExpired},
		"the grant is in grace":      {license: inForce, grant: grant().NotAfter(noon).Grace(time.Hour).Obj()},
		"another account":            {license: inForce, grant: builders.Grant("ml", "g", "chat").ServiceAccount("web").Obj(), reason: v1alpha1.ReasonSubjectNotGranted},
		"other pods":                 {license: inForce, grant: grant().PodSelector(map[string]string{"app": "web"}).Obj(), reason: v1alpha1.ReasonPodNotSelected},
		"another namespace":          {license: license().Namespaces("web").Obj(), grant: grant().Obj(), reason: v1alpha1.ReasonNamespaceNotAllowed},
		"another purpose":            {license: inForce, grant: grant().Purpose(v1alpha1.PurposeCommercial).Obj(), reason: v1alpha1.ReasonPurposeNotLicensed},
		"other images":               {license: builders.License("chat").Repository("registry.example.com/models/other").Obj(), grant: grant().Obj(), reason: v1alpha1.ReasonModelNotReferenced},
		"another digest":             {license: license().Digests("sha256:" + strings.Repeat("0", 64)).Obj(), grant: grant().Obj(), reason: v1alpha1.ReasonDigestNotPinned},
		"a node with the label":      {license: license().NodeSelector("region", "eu").Obj(), grant: grant().Obj(), node: map[string]string{"region": "eu"}},
		"a node without the label":   {license: license().NodeSelector("region", "eu").Obj(), grant: grant().Obj(), node: map[string]string{"region": "us"}, reason: v1alpha1.ReasonNodeNotAllowed},
		"a node that is not known":   {license: license().NodeSelector("region", "eu").Obj(), grant: grant().Obj()},
		"not on a node":              {license: license().NodeSelector("region", "eu").Obj(), grant: grant().Obj(), node: map[string]string{}, pod: func(p *corev1.Pod) { p.Spec.NodeName = "" }},
		"limits are lowered to none": {license: license().Limits("pods", "0").Obj(), grant: grant().Obj()},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pod, ledgers := podOnNode(chatImage), heldLedgers{}
			if tc.pod != nil {
				tc.pod(pod)
			}
			ledgers.holds(t, inForce, pod, nil)
			w := world{}
			if tc.license != nil {
				w.licenses = append(w.licenses, tc.license)
			}
			if tc.grant != nil {
				w.grants = append(w.grants, tc.grant)
			}
			lost := lossesOf(pod, seatsOf(ledgers, pod.UID), rightsFacts{
				snapshot: w.snapshot(t), now: noon.Add(tc.at), last: func(string) *v1alpha1.ModelLicense { return inForce },
				nodeLabels: func() (map[string]string, bool) { return tc.node, tc.node != nil },
			})
			if tc.reason == "" {
				if len(lost) > 0 {
					t.Errorf("lost %s", lost[0].note())
				}
				return
			}
			if len(lost) != 1 || lost[0].reason != tc.reason || lost[0].message == "" || lost[0].remedy == "" {
				t.Fatalf("lost %+v, want %s", lost, tc.reason)
			}
			entry := lost[0].revoked(pod)
			if entry.License.UID == "" && tc.license != nil && tc.license.UID != "" || entry.Grant.Name != "g" || entry.Node != pod.Spec.NodeName || entry.Reason != tc.reason {
				t.Errorf("entry %+v", entry)
			}
		})
	}
}

// TestSurgeIsOver: a seat beyond the limits is lost when its period is over, unless there was room by then.
func TestSurgeIsOver(t *testing.T) {
	license := builders.License("chat").Repository("registry.example.com/models/chat").UID("l-uid").Generation(1).Limits("pods", "1").Surge(1, 10*time.Minute).Obj()
	old, pod, ledgers := podOnNode(chatImage), podOnNode(chatImage), heldLedgers{}
	old.UID = "00000000-0000-4000-8000-000000000002"
	ledgers.holds(t, license, old, nil)
	ledgers.holds(t, license, pod, func(take *seats.Take) {
		take.Surge = &seats.SurgeFor{Pods: 1, Period: 10 * time.Minute, Replaces: []types.UID{old.UID}}
	})
	if !isSurge(ledgers["chat"], pod.UID) {
		t.Fatal("the seat is within the limits")
	}
	reason := func(at time.Duration) v1alpha1.Reason {
		lost := lossesOf(pod, seatsOf(ledgers, pod.UID), rightsFacts{
			snapshot: world{[]*v1alpha1.ModelLicense{license}, []*v1alpha1.ModelGrant{builders.Grant("ml", "g", "chat").ServiceAccount("llm").Obj()}}.snapshot(t),
			now:      noon.Add(at), last: func(string) *v1alpha1.ModelLicense { return license },
		})
		if len(lost) == 0 {
			return ""
		}
		return lost[0].reason
	}
	if got := surgeEnds(ledgers["chat"], noon); !got.Equal(noon.Add(10 * time.Minute)) {
		t.Errorf("the surge ends at %v", got)
	}
	if before, at := reason(10*time.Minute-1), reason(10*time.Minute); before != "" || at != v1alpha1.ReasonSurgeEnded {
		t.Errorf("just before its end %q, at its end %q", before, at)
	}
	ledgers["chat"].Apply(seats.End{Pod: old.UID, At: noon.Add(time.Minute)})
	if got := reason(time.Hour); got != "" {
		t.Errorf("lost for %s though there is room", got)
	}
}

func TestEvicts(t *testing.T) {
	with := func(policy v1alpha1.RevocationPolicy, mode v1alpha1.EnforcementMode) *v1alpha1.ModelLicense {
		return builders.License("chat").OnRevoke(policy).Enforcement(mode).Obj()
	}
	for name, tc := range map[string]struct {
		license *v1alpha1.ModelLicense
		evicts  bool
	}{
		"by default":                  {builders.License("chat").Obj(), true},
		"Evict":                       {with(v1alpha1.RevokeEvict, v1alpha1.EnforcementEnforce), true},
		"WipeKey":                     {with(v1alpha1.RevokeWipeKey, v1alpha1.EnforcementEnforce), false},
		"one that warns":              {with(v1alpha1.RevokeEvict, v1alpha1.EnforcementWarn), false},
		"one that audits":             {with(v1alpha1.RevokeEvict, v1alpha1.EnforcementAudit), false},
		"gone, and never seen before": {nil, true},
	} {
		if got := (loss{license: tc.license}).evicts(); got != tc.evicts {
			t.Errorf("%s: evicts %v", name, got)
		}
	}
}

// TestRevokedCondition: what was logged of a pod stays in its condition, each loss is logged once, and again when the pod
// loses the same licence another time.
func TestRevokedCondition(t *testing.T) {
	pod := podOnNode(chatImage, otherImage)
	setPodCondition(pod, v1alpha1.PodConditionLicensed, &corev1.PodCondition{
		Type: v1alpha1.PodConditionLicensed, Status: corev1.ConditionTrue, Reason: "Entitled",
		LastTransitionTime: metav1.NewTime(noon.Add(-time.Hour)), Message: "licence chat [a note]" + marks{"m1", "m2"}.String(),
	})
	first := loss{name: "chat", license: chatLicense(), reason: v1alpha1.ReasonNoGrant, message: "no grant"}
	second := loss{name: "other", license: otherLicense(), reason: v1alpha1.ReasonSuspended, message: "suspended"}
	id := first.revoked(pod).ID

	set := func(c *corev1.PodCondition) { setPodCondition(pod, v1alpha1.PodConditionLicensed, c) }
	set(revokedCondition(pod, []loss{first}, noon))
	c := conditionOf(pod, v1alpha1.PodConditionLicensed)
	if !isRevoked(c) || !c.LastTransitionTime.Time.Equal(noon) || !strings.Contains(c.Message, "lost licence chat [NoGrant]: no grant") {
		t.Errorf("condition %+v", c)
	}
	if got := unlogged(pod, []loss{first, second}); len(got) != 1 || got[0].name != "other" {
		t.Errorf("unlogged %+v", got)
	}
	changed := first
	changed.reason = v1alpha1.ReasonSuspended
	if got := unlogged(pod, []loss{changed}); len(got) != 0 {
		t.Error("what is lost already is logged again for another reason")
	}
	set(revokedCondition(pod, []loss{first, second}, noon.Add(time.Minute)))
	logged := marksOf(pod, v1alpha1.PodConditionLicensed)
	if len(unlogged(pod, []loss{first, second})) > 0 || !logged.has("m1") || !logged.has("m2") {
		t.Errorf("marks %v", logged)
	}
	set(restoredCondition(pod, notesOf([]heldSeat{{license: "chat", holder: seats.Holder{Grant: seats.Grant{Name: "g"}}}}), noon.Add(time.Hour)))
	c = conditionOf(pod, v1alpha1.PodConditionLicensed)
	if c.Status != corev1.ConditionTrue || c.Reason != "Entitled" || !slices.Equal(marksOf(pod, v1alpha1.PodConditionLicensed), marks{"m1", "m2"}) {
		t.Errorf("restored to %+v", c)
	}
	if got := unlogged(pod, []loss{first}); len(got) != 1 || got[0].revoked(pod).ID == id {
		t.Error("what is lost a second time is not logged a second time")
	}
	// Whoever else writes the condition keeps marks that are old.
	c.Message += marks{first.mark()}.String()
	set(c)
	if got := unlogged(pod, []loss{first}); len(got) != 1 {
		t.Error("an old mark of a loss, on a pod that has its entitlement, stands for a new one")
	}
	if len(id) > 104 || !strings.HasPrefix(id, "Revoked/"+string(pod.UID)) || first.ended(pod, endedByEviction).ID == id {
		t.Errorf("ID %s", id)
	}
}

// TestSnapshotWithoutLicense: a licence that no grant names and that was never seen is lost all the same.
func TestSnapshotWithoutLicense(t *testing.T) {
	pod, ledgers := podOnNode(chatImage), heldLedgers{}
	ledgers.holds(t, chatLicense(), pod, nil)
	empty, err := entitlement.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	lost := lossesOf(pod, seatsOf(ledgers, pod.UID), rightsFacts{snapshot: empty, now: noon, last: func(string) *v1alpha1.ModelLicense { return nil }})
	if len(lost) != 1 || lost[0].license != nil || lost[0].entry("x", pod).License.Name != "chat" {
		t.Errorf("lost %+v", lost)
	}
}
