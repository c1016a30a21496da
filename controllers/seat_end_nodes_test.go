package controllers

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// ledgerBook is a SeatBook of one ledger.
type ledgerBook struct{ ledger *seats.Ledger }

func (b ledgerBook) Do(_ context.Context, _ string, changes ...seats.Change) ([]seats.Result, error) {
	return b.ledger.Apply(changes...), nil
}

func (b ledgerBook) Drop(context.Context, string) (bool, error) { return false, nil }

// hostsPod is a pod that requires, in each term, to be on a host of each list.
func hostsPod(terms ...[][]string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "waits", UID: "0c0ffee0-0000-4000-8000-000000000002"}}
	required := &corev1.NodeSelector{}
	for _, lists := range terms {
		term := corev1.NodeSelectorTerm{}
		confineTerm(&term, lists)
		required.NodeSelectorTerms = append(required.NodeSelectorTerms, term)
	}
	pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required}}
	return pod
}

func to(hosts ...string) [][]string { return [][]string{hosts} }

func seatNodeOf(name, host string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: host}}}
}

// TestNoPodWaitsForNodesThatAreGone: of a licence for one node, used on n1, where a second pod was confined to that.
func TestNoPodWaitsForNodesThatAreGone(t *testing.T) {
	gated := hostsPod(to("n1"))
	gated.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SeatGate}}
	system, mirror, bound := hostsPod(to("n1")), hostsPod(to("n1")), hostsPod(to("n1"))
	system.Namespace = "kube-system"
	mirror.Annotations = map[string]string{annotationMirror: "x"}
	bound.Spec.NodeName = "n1"
	another := hostsPod(to("n1"))
	another.UID = "0c0ffee0-0000-4000-8000-000000000003"
	free := hostsPod(to("n1"), to("n3"))
	free.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[1].MatchExpressions[0].Key = corev1.LabelTopologyZone
	n1, host, n2 := seatNodeOf("n1", "n1"), seatNodeOf("n", "n1"), seatNodeOf("n2", "n2")
	for name, test := range map[string]struct {
		pod          *corev1.Pod
		stored       *corev1.Pod // where it is another than is cached
		cached, live []client.Object
		nodes        []string // in use afterwards
		deleted      bool
	}{
		"its node is there":              {pod: hostsPod(to("n1")), cached: []client.Object{n1}, live: []client.Object{n1}, nodes: []string{"n1"}},
		"its node is gone":               {pod: hostsPod(to("n1")), deleted: true},
		"the cache is behind":            {pod: hostsPod(to("n1")), live: []client.Object{n1}, nodes: []string{"n1"}},
		"one of its nodes is there":      {pod: hostsPod(to("n1", "n2")), cached: []client.Object{n2}, live: []client.Object{n2}},
		"another node is there":          {pod: hostsPod(to("n1")), cached: []client.Object{n2}, live: []client.Object{n2}, deleted: true},
		"a node of that host name":       {pod: hostsPod(to("n1")), cached: []client.Object{host}, live: []client.Object{host}},
		"such a node has just come":      {pod: hostsPod(to("n1")), live: []client.Object{host}},
		"gated: it is placed anew":       {pod: gated},
		"in a protected namespace":       {pod: system},
		"a mirror":                       {pod: hostsPod(to("n1")), stored: mirror},
		"bound meanwhile":                {pod: hostsPod(to("n1")), stored: bound},
		"another of its name":            {pod: hostsPod(to("n1")), stored: another},
		"free to go elsewhere":           {pod: free},
		"by other requirements too":      {pod: hostsPod([][]string{{"n1"}, {"n1", "n2"}}), cached: []client.Object{n2}, live: []client.Object{n2}, deleted: true},
		"its requirements are at odds":   {pod: hostsPod([][]string{{"n1"}, {"n3"}})},
		"it may go to either, both gone": {pod: hostsPod(to("n1"), to("n3")), deleted: true},
	} {
		t.Run(name, func(t *testing.T) {
			license := seatLicense(corev1.ResourceList{resourceNodes: resource.MustParse("1")})
			ledger := seats.Empty(license)
			first := hostsPod()
			first.UID = "0c0ffee0-0000-4000-8000-000000000001"
			grant := seats.Grant{Namespace: test.pod.Namespace, Name: "chat", UID: "0c0ffee0-0000-4000-8000-000000000009"}
			take := func(pod *corev1.Pod) seats.Change {
				return seats.Take{Pod: pod.UID, Grant: grant, Generation: license.Generation, Since: seatTook}
			}
			for _, r := range ledger.Apply(take(first), seats.Bind{Pod: first.UID, Node: "n1"}, take(test.pod), seats.End{Pod: first.UID, At: seatNow}) {
				if !r.OK() {
					t.Fatal(r.Message)
				}
			}
			stored := test.stored
			if stored == nil {
				stored = test.pod
			}
			api := fake.NewClientBuilder().WithObjects(append(slices.Clone(test.live), stored.DeepCopy())...).Build()
			pods := NewSeatPods(clocktesting.NewFakePassiveClock(seatNow), holdersOf{test.pod.UID: true})
			cached, err := TrimPod(test.pod.DeepCopy())
			if err != nil {
				t.Fatal(err)
			}
			pods.observe(cached, false)
			recorder := events.NewFakeRecorder(8)
			// What is cached of nodes is read from one, all else from the other.
			r := &SeatEndReconciler{
				Client: cachedNodes{api, fake.NewClientBuilder().WithObjects(test.cached...).Build()}, Live: api, Book: ledgerBook{ledger}, Pods: pods, Events: recorder,
				ender: ender{protected: []string{"kube-system"}},
			}
			for range 3 {
				p := r.newPass(ledger.Clone(), license, newSeatMemory(), seatNow)
				if err := p.decide(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(p.changes) > 0 && len(p.stranded) > 0 {
					t.Error("a pod is deleted before the ledger has forgotten the nodes to which the next one would be confined")
				}
				if !p.nodes["n1"] && test.nodes != nil {
					t.Error("nobody looks when the node goes")
				}
				if err := p.carryOut(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := p.endStranded(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := ledger.Nodes(); !slices.Equal(got, test.nodes) {
				t.Errorf("nodes in use: %v, want %v", got, test.nodes)
			}
			err = api.Get(t.Context(), client.ObjectKeyFromObject(test.pod), &corev1.Pod{})
			if deleted := err != nil; deleted != test.deleted || client.IgnoreNotFound(err) != nil {
				t.Errorf("deleted: %v (%v), want %v", deleted, err, test.deleted)
			}
			told := len(recorder.Events)
			if told > 0 != test.deleted {
				t.Errorf("%d events", told)
			}
			if told > 0 && !strings.Contains(<-recorder.Events, "Warning NodeGone") {
				t.Error("the event does not say why")
			}
		})
	}
}

// cachedNodes reads by another client than it writes.
type cachedNodes struct {
	client.Client
	reads client.Reader
}

func (c cachedNodes) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	return c.reads.Get(ctx, key, into, options...)
}

func (c cachedNodes) List(ctx context.Context, into client.ObjectList, options ...client.ListOption) error {
	return c.reads.List(ctx, into, options...)
}

// TestPodsThatBeginToWaitForHostsAreLookedAt: the node may be gone by then.
func TestPodsThatBeginToWaitForHostsAreLookedAt(t *testing.T) {
	ungated := hostsPod(to("n1"))
	gated := ungated.DeepCopy()
	gated.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SeatGate}}
	bound := ungated.DeepCopy()
	bound.Spec.NodeName = "n1"
	pods := NewSeatPods(clocktesting.NewFakePassiveClock(seatNow), holdersOf{})
	pods.observe(trimmed(t, gated), false)
	if changed, _ := pods.note(trimmed(t, ungated), false); !changed {
		t.Error("nobody looks")
	}
	if trimmed(t, bound).Spec.Affinity != nil {
		t.Error("the affinity of a pod that is bound is kept in memory")
	}
}
