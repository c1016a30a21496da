package webhooks

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

func amount(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func TestLackOf(t *testing.T) {
	licence := func(inUse corev1.ResourceList, limits ...string) share {
		return share{"licence", amount(limits...), inUse}
	}
	grant := func(inUse corev1.ResourceList, limits ...string) share {
		return share{"grant", amount(limits...), inUse}
	}
	pod := amount("pods", "1", "cpu", "2", "nvidia.com/gpu", "4")
	for name, test := range map[string]struct {
		all          []share
		held, wanted corev1.ResourceList
		lack         string // OWNER RESOURCE
		tooLarge     bool
	}{
		"no limits":              {[]share{licence(nil)}, nil, pod, "", false},
		"nothing in use":         {[]share{licence(nil, "pods", "1", "cpu", "2", "nvidia.com/gpu", "4")}, nil, pod, "", false},
		"room for one":           {[]share{licence(amount("pods", "3", "nvidia.com/gpu", "4"), "pods", "4", "nvidia.com/gpu", "8")}, nil, pod, "", false},
		"pods":                   {[]share{licence(amount("pods", "4"), "pods", "4")}, nil, pod, "licence pods", false},
		"a device":               {[]share{licence(amount("nvidia.com/gpu", "5"), "nvidia.com/gpu", "8")}, nil, pod, "licence nvidia.com/gpu", false},
		"too large":              {[]share{licence(nil, "nvidia.com/gpu", "3")}, nil, pod, "licence nvidia.com/gpu", true},
		"too large comes first":  {[]share{licence(amount("cpu", "7"), "cpu", "8"), grant(nil, "cpu", "1")}, nil, pod, "grant cpu", true},
		"pods: none":             {[]share{licence(nil, "pods", "0")}, nil, pod, "licence pods", true},
		"the grant":              {[]share{licence(amount("pods", "4"), "pods", "8"), grant(amount("pods", "2"), "pods", "2")}, nil, pod, "grant pods", false},
		"nodes are confined":     {[]share{licence(amount("nodes", "2"), "nodes", "2")}, nil, pod, "", false},
		"beyond already":         {[]share{licence(amount("pods", "9"), "pods", "4")}, nil, pod, "licence pods", false},
		"grows":                  {[]share{licence(amount("pods", "1", "cpu", "4"), "cpu", "8")}, amount("pods", "1", "cpu", "4"), amount("pods", "1", "cpu", "8"), "", false},
		"grows too far":          {[]share{licence(amount("pods", "2", "cpu", "6"), "cpu", "8")}, amount("pods", "1", "cpu", "4"), amount("pods", "1", "cpu", "7"), "licence cpu", false},
		"grows beyond all":       {[]share{licence(amount("cpu", "6"), "cpu", "8")}, amount("cpu", "4"), amount("cpu", "9"), "licence cpu", true},
		"shrinks, though beyond": {[]share{licence(amount("pods", "9", "cpu", "99"), "pods", "4", "cpu", "8")}, amount("pods", "1", "cpu", "50"), amount("pods", "1", "cpu", "40"), "", false},
		"a quarter of a core":    {[]share{licence(amount("cpu", "7800m"), "cpu", "8")}, nil, amount("cpu", "250m"), "licence cpu", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, tooLarge := "", false
			if l := lackOf(test.all, test.held, test.wanted); l != nil {
				got, tooLarge = l.owner+" "+string(l.name), l.tooLarge
				if !strings.Contains(l.String(), string(l.name)) || !strings.Contains(l.String(), l.owner) {
					t.Errorf("says %q", l)
				}
			}
			if got != test.lack || tooLarge != test.tooLarge {
				t.Errorf("lacks %q, too large %t; want %q, %t", got, tooLarge, test.lack, test.tooLarge)
			}
		})
	}
}

// fakeSeats are ledgers by licence.
type fakeSeats map[string]*seats.Ledger

func (f fakeSeats) Ledger(license string) *seats.Ledger { return f[license] }

func (f fakeSeats) LicensesOf(pod types.UID) []string {
	var all []string
	for name, l := range f {
		if _, holds := l.Holder(pod); holds {
			all = append(all, name)
		}
	}
	return all
}

// taken is a ledger of the licence with seats of pods under a grant, each of one core.
func taken(t testing.TB, l *v1alpha1.ModelLicense, g *v1alpha1.ModelGrant, pods ...string) *seats.Ledger {
	t.Helper()
	ledger := seats.Empty(l)
	for _, pod := range pods {
		result := ledger.Apply(seats.Limit{License: l, Confirmed: true}, seats.Take{
			Pod: types.UID(pod), Grant: seats.Grant{Namespace: g.Namespace, Name: g.Name, UID: g.UID}, GrantLimits: g.Spec.Limits,
			Amount: amount("cpu", "1"), Generation: l.Generation, Since: now,
		})
		if !result[1].OK() {
			t.Fatalf("pod %s got no seat: %+v", pod, result)
		}
	}
	return ledger
}

func podUID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func TestDeniedWhenFull(t *testing.T) {
	grant := builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").UID("g").Obj()
	deny := func() *builders.LicenseBuilder {
		return chat().UID("l").Generation(1).Limits("pods", "2").Overage(v1alpha1.OverageDeny)
	}
	limited := builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").UID("g").Limits("pods", "1").Obj()
	pod := func() *builders.PodBuilder { return server().Container("main", chatImage).Gate() }
	full := func(l *builders.LicenseBuilder, g *v1alpha1.ModelGrant, pods int) fakeSeats {
		var uids []string
		for n := range pods {
			uids = append(uids, podUID(n))
		}
		return fakeSeats{"acme-chat": taken(t, l.Obj(), g, uids...)}
	}
	tests := map[string]struct {
		license *builders.LicenseBuilder
		grant   *v1alpha1.ModelGrant
		seats   Seats
		pod     *builders.PodBuilder
		want    v1alpha1.Reason
		says    string
	}{
		"nothing is known":   {deny(), grant, nil, pod(), "", ""},
		"no ledger yet":      {deny(), grant, fakeSeats{}, pod(), "", ""},
		"room":               {deny(), grant, full(deny(), grant, 1), pod(), "", ""},
		"full":               {deny(), grant, full(deny(), grant, 2), pod(), v1alpha1.ReasonSeatsFull, "of the 2 that ModelLicense acme-chat allows 2 are in use"},
		"full, queued":       {deny().Overage(v1alpha1.OverageQueue), grant, full(deny(), grant, 2), pod(), "", ""},
		"full, Warn":         {deny().Enforcement(v1alpha1.EnforcementWarn), grant, full(deny(), grant, 2), pod(), "", ""},
		"the grant is full":  {deny(), limited, full(deny(), limited, 1), pod(), v1alpha1.ReasonSeatsFull, "ModelGrant ml-prod/chat"},
		"surge":              {deny().Surge(1, 0), grant, full(deny(), grant, 2), pod(), "", ""},
		"raised":             {deny().Limits("pods", "3"), grant, full(deny(), grant, 2), pod(), "", ""},
		"too large":          {deny().Limits("pods", "2", "cpu", "4"), grant, fakeSeats{}, pod().Requests("main", "cpu", "5"), v1alpha1.ReasonSeatsFull, "asks for 5 of cpu"},
		"too large, surge":   {deny().Limits("cpu", "4").Surge(1, 0), grant, fakeSeats{}, pod().Requests("main", "cpu", "5"), v1alpha1.ReasonSeatsFull, ""},
		"too large, queued":  {deny().Limits("cpu", "4").Overage(v1alpha1.OverageQueue), grant, fakeSeats{}, pod().Requests("main", "cpu", "5"), "", ""},
		"full, not entitled": {deny(), grant, full(deny(), grant, 2), pod().ServiceAccount("web"), v1alpha1.ReasonSubjectNotGranted, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, knows(t, test.license.Obj(), test.grant))
			h.decider.seats = test.seats
			response := h.validate.Handle(context.Background(), create(t, test.pod))
			if got := reasonOf(t, response); got != test.want {
				t.Errorf("%q (%+v), want %q", got, response.Result, test.want)
			}
			if test.says != "" && !strings.Contains(response.Result.Message, test.says) {
				t.Errorf("%q does not say %q", response.Result.Message, test.says)
			}
		})
	}
}

func TestResize(t *testing.T) {
	grant := builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").UID("g").Obj()
	license := chat().UID("l").Generation(1).Limits("cpu", "4")
	ledger := taken(t, license.Obj(), grant, podUID(0), podUID(1))
	pod := func(cpu string) *builders.PodBuilder {
		return server().UID(podUID(0)).Container("main", chatImage).Requests("main", "cpu", cpu)
	}
	limited := builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").UID("g").Limits("cpu", "2").Obj()
	tests := map[string]struct {
		rights       *fakeRights
		seats        Seats
		old, updated *builders.PodBuilder
		want         v1alpha1.Reason
	}{
		"within":                    {knows(t, license.Obj(), grant), fakeSeats{"acme-chat": ledger}, pod("1"), pod("3"), ""},
		"beyond what is left":       {knows(t, license.Obj(), grant), fakeSeats{"acme-chat": ledger}, pod("1"), pod("3500m"), v1alpha1.ReasonSeatsFull},
		"beyond all":                {knows(t, license.Obj(), grant), fakeSeats{"acme-chat": ledger}, pod("1"), pod("5"), v1alpha1.ReasonTooLarge},
		"beyond the grant":          {knows(t, license.Obj(), limited), fakeSeats{"acme-chat": ledger}, pod("1"), pod("1500m"), v1alpha1.ReasonSeatsFull},
		"down":                      {knows(t, license.Obj(), grant), fakeSeats{"acme-chat": ledger}, pod("1"), pod("500m"), ""},
		"a pod without a seat":      {knows(t, license.Obj(), grant), fakeSeats{"acme-chat": ledger}, pod("1").UID("x"), pod("5").UID("x"), ""},
		"seats are not known":       {knows(t, license.Obj(), grant), nil, pod("1"), pod("5"), ""},
		"the licence only watches":  {knows(t, license.Enforcement(v1alpha1.EnforcementAudit).Obj(), grant), fakeSeats{"acme-chat": ledger}, pod("1"), pod("5"), ""},
		"the licence is gone":       {knows(t, grant), fakeSeats{"acme-chat": ledger}, pod("1"), pod("5"), ""},
		"the grant is gone":         {knows(t, chat().UID("l").Generation(1).Limits("cpu", "4").Obj()), fakeSeats{"acme-chat": ledger}, pod("1"), pod("3"), ""},
		"the pod is being deleted":  {knows(t, chat().UID("l").Limits("cpu", "4").Obj(), grant), fakeSeats{"acme-chat": ledger}, pod("1").Deleted(now), pod("5").Deleted(now), ""},
		"raised a moment ago":       {&fakeRights{cached: snapshot(t, chat().UID("l").Limits("cpu", "4").Obj(), grant), live: snapshot(t, chat().UID("l").Limits("cpu", "9").Obj(), grant)}, fakeSeats{"acme-chat": ledger}, pod("1"), pod("5"), ""},
		"nothing can be read":       {&fakeRights{unsynced: true, liveErr: errUnreachable}, fakeSeats{"acme-chat": ledger}, pod("1"), pod("5"), ""},
		"an image and no resources": {knows(t, chat().UID("l").Limits("cpu", "1").Obj(), grant), fakeSeats{"acme-chat": ledger}, pod("1"), pod("1").Image("main", chatImage+"-next"), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, test.rights)
			h.decider.seats = test.seats
			response := h.validate.Handle(context.Background(), update(t, "resize", test.old, test.updated))
			if got := reasonOf(t, response); got != test.want {
				t.Errorf("%q (%+v), want %q", got, response.Result, test.want)
			}
		})
	}
}

// TestHeldInGrace: a pod that has its seats changes to another image of its licence in the grace period too.
func TestHeldInGrace(t *testing.T) {
	grant := builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").UID("g").Obj()
	license := chat().UID("l").Generation(1).NotAfter(now).Grace(1 << 40).Obj()
	pod := func(uid string) *builders.PodBuilder { return server().UID(uid).Container("main", chatImage) }
	h := newHooks(t, knows(t, license, grant))
	h.decider.seats = fakeSeats{"acme-chat": taken(t, license, grant, podUID(0))}
	for uid, want := range map[string]v1alpha1.Reason{podUID(0): "", podUID(1): v1alpha1.ReasonInGrace} {
		response := h.validate.Handle(context.Background(), update(t, "", pod(uid), pod(uid).Image("main", chatImage+"-next")))
		if got := reasonOf(t, response); got != want {
			t.Errorf("%q (%+v), want %q", got, response.Result, want)
		}
	}
}

// TestSuspectedTime: what has ended by a time that is not confirmed is not admitted, nor is what begins by it; a licence that
// relaxes denies by neither.
func TestSuspectedTime(t *testing.T) {
	grant := builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").UID("g").Obj()
	license := func() *builders.LicenseBuilder { return chat().UID("l").Generation(1) }
	for name, test := range map[string]struct {
		license *builders.LicenseBuilder
		later   time.Duration
		want    v1alpha1.Reason
	}{
		"ends before":        {license().NotAfter(now.Add(time.Hour)), 2 * time.Hour, v1alpha1.ReasonExpired},
		"ends after":         {license().NotAfter(now.Add(time.Hour)), time.Minute, ""},
		"begins before":      {license().NotBefore(now.Add(time.Hour)), 2 * time.Hour, v1alpha1.ReasonNotYetValid},
		"ends, and relaxes":  {license().NotAfter(now.Add(time.Hour)).Enforcement(v1alpha1.EnforcementAudit), 2 * time.Hour, ""},
		"nothing suspicious": {license().NotAfter(now.Add(time.Hour)), 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, knows(t, test.license.Obj(), grant))
			h.decider.later = func() (time.Time, bool) { return now.Add(test.later), test.later > 0 }
			response := h.validate.Handle(context.Background(), create(t, server().Gate(v1alpha1.SeatGate).Container("main", chatImage)))
			if got := reasonOf(t, response); got != test.want {
				t.Errorf("%q (%+v), want %q", got, response.Result, test.want)
			}
		})
	}
}
