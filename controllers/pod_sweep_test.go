package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// cachedPods is a cache of pods by namespace.
type cachedPods struct {
	client.Reader
	pods map[string][]corev1.Pod
	// fails is the namespace whose pods cannot be listed.
	fails  string
	listed []string
}

func (c *cachedPods) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(opts)
	switch l := list.(type) {
	case *corev1.NamespaceList:
		for name := range c.pods {
			l.Items = append(l.Items, *builders.Namespace(name).Obj())
		}
	case *corev1.PodList:
		c.listed = append(c.listed, o.Namespace)
		if o.Namespace == c.fails {
			return errors.New("broken")
		}
		l.Items = slices.Clone(c.pods[o.Namespace])
	}
	return nil
}

// fixedRights is a snapshot that does not change.
type fixedRights struct{ snapshot *entitlement.Snapshot }

func (r fixedRights) Snapshot() (*entitlement.Snapshot, bool) { return r.snapshot, true }
func (r fixedRights) Live(context.Context, string) (*entitlement.Snapshot, error) {
	return r.snapshot, nil
}
func (r fixedRights) NamespaceLabels(context.Context, string, bool) (map[string]string, error) {
	return nil, nil
}
func (r fixedRights) Subscribe(func(client.Object)) {}

func TestSweeps(t *testing.T) {
	cache := &cachedPods{pods: map[string][]corev1.Pod{"a": {*storedPod(chatImage)}, "b": {*storedPod(otherImage)}, "c": nil}}
	var s sweeps
	var visited []string
	once := func() error {
		cache.listed, visited = nil, nil
		err := s.once(t.Context(), cache, func(_ context.Context, namespace string, pods []corev1.Pod) error {
			visited = append(visited, fmt.Sprintf("%s %d", namespace, len(pods)))
			return nil
		})
		slices.Sort(cache.listed)
		slices.Sort(visited)
		return err
	}
	for name, step := range map[string]struct {
		changes         []client.Object
		listed, visited string
	}{
		"nothing":        {nil, "[]", "[]"},
		"a grant":        {[]client.Object{builders.Grant("b", "g", "l").Obj()}, "[b]", "[b 1]"},
		"grants":         {[]client.Object{builders.Grant("b", "g", "l").Obj(), builders.Grant("b", "h", "l").Obj(), builders.Grant("c", "g", "l").Obj()}, "[b c]", "[b 1]"},
		"a licence":      {[]client.Object{chatLicense()}, "[a b c]", "[a 1 b 1]"},
		"many of either": {[]client.Object{chatLicense(), otherLicense(), builders.Grant("b", "g", "l").Obj()}, "[a b c]", "[a 1 b 1]"},
	} {
		for _, o := range step.changes {
			s.changed(o)
		}
		select {
		case <-s.wait():
			if len(step.changes) == 0 {
				t.Errorf("%s wakes", name)
			}
		default:
			if len(step.changes) > 0 {
				t.Errorf("%s does not wake", name)
			}
		}
		if err := once(); err != nil || fmt.Sprint(cache.listed) != step.listed || fmt.Sprint(visited) != step.visited {
			t.Errorf("%s: %v, listed %v, visited %v", name, err, cache.listed, visited)
		}
	}

	swept := 0
	s.swept = func() { swept++ }
	s.needAll()
	cache.fails = "a"
	if err := once(); err == nil || fmt.Sprint(visited) != "[b 1]" {
		t.Errorf("%v, visited %v", err, visited)
	}
	if swept != 0 {
		t.Error("told that all pods were gone through, and some were not")
	}
	cache.fails = ""
	if err := once(); err != nil || fmt.Sprint(visited) != "[a 1]" {
		t.Errorf("what failed is not tried again: %v, visited %v", err, visited)
	}
	if err := once(); err != nil || swept != 1 {
		t.Errorf("%v, told %d times that all pods were gone through", err, swept)
	}
}

// TestVisit adds the pods that are not settled and no others.
func TestVisit(t *testing.T) {
	w := world{[]*v1alpha1.ModelLicense{chatLicense(), otherLicense()}, []*v1alpha1.ModelGrant{chatGrant()}}
	held := newBookedSeats(w.licenses...)
	r := &PodReconciler{Rights: fixedRights{w.snapshot(t)}, Clock: testingclock.NewFakePassiveClock(noon), Seats: allocatorOf(held)}
	if _, err := held.Do(t.Context(), "chat", seats.Adopt{Pod: storedPod().UID, Grant: seats.Grant{Namespace: "ml", Name: "chat", UID: "g"}, Since: noon}); err != nil {
		t.Fatal(err)
	}
	named := func(name string, pod *corev1.Pod, settled bool) corev1.Pod {
		pod.Name = name
		if settled {
			w.brought(t, pod)
		}
		return *pod
	}
	cut := storedPod("docker.io/library/busybox")
	cut.Annotations = map[string]string{annotationCut: "true"}
	pods := []corev1.Pod{
		named("plain", storedPod("docker.io/library/busybox"), false),
		named("admitted", storedPod(chatImage), true), named("found", storedPod(otherImage), true),
		named("to-admit", storedPod(chatImage), false), named("to-find", storedPod(otherImage), false), named("cut", cut, false),
	}
	unseated := named("unseated", storedPod(chatImage), true)
	unseated.UID = "another-uid"
	resized := named("resized", storedPod(chatImage), true)
	resized.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("2")}
	pods = append(pods, unseated, resized)
	var added []string
	if err := r.visit(t.Context(), "ml", pods, func(q reconcile.Request) { added = append(added, q.Name) }); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(added); got != "[to-admit to-find cut unseated resized]" {
		t.Errorf("added %s", got)
	}
}

// BenchmarkSweep goes through 50,000 pods of two containers after a licence was written: 10,000 licences, and a tenth of
// the pods use one and were admitted.
func BenchmarkSweep(b *testing.B) {
	s, err := entitlement.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	changes := entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{}, Grants: map[entitlement.GrantKey]*v1alpha1.ModelGrant{}}
	for i := range 10_000 {
		l := builders.License(fmt.Sprintf("l-%d", i)).Repository(fmt.Sprintf("registry.example.com/models/m-%d", i)).Obj()
		changes.Licenses[l.Name] = l
	}
	for i := range 100 {
		g := builders.Grant(fmt.Sprintf("ns-%d", i), "g", fmt.Sprintf("l-%d", i)).ServiceAccount("llm").Obj()
		changes.Grants[entitlement.GrantKey{Namespace: g.Namespace, Name: g.Name}] = g
	}
	s = s.Apply(changes)
	held := newBookedSeats(slices.Collect(maps.Values(changes.Licenses))...)
	r := &PodReconciler{Rights: fixedRights{s}, Clock: testingclock.NewFakePassiveClock(noon), Seats: allocatorOf(held)}
	cache := &cachedPods{pods: map[string][]corev1.Pod{}}
	for i := range 100 {
		namespace := fmt.Sprintf("ns-%d", i)
		for n := range 500 {
			image := fmt.Sprintf("registry.example.com/apps/app-%d:1.%d", n%50, i)
			if n%10 == 0 {
				image = fmt.Sprintf("registry.example.com/models/m-%d:1", i)
			}
			pod := builders.Pod(namespace, fmt.Sprintf("p-%d", n)).UID(fmt.Sprintf("uid-%d-%d", i, n)).ServiceAccount("llm").Container("server", image).Container("proxy", "registry.example.com/mesh/proxy:2").Obj()
			stands := r.stand(pod, nil, s)
			setPodCondition(pod, v1alpha1.PodConditionLicensed, stands.desired(noon))
			for _, a := range stands.admitted {
				adopt := seats.Adopt{Pod: pod.UID, Grant: needOf(pod, a.use).seatGrant(), Since: noon}
				if results, err := held.Do(b.Context(), a.use.License.Name, adopt); err != nil || !results[0].OK() {
					b.Fatal(results, err)
				}
			}
			cache.pods[namespace] = append(cache.pods[namespace], *pod)
		}
	}
	var gathered sweeps
	b.ReportAllocs()
	for b.Loop() {
		gathered.needAll()
		err := gathered.once(b.Context(), cache, func(ctx context.Context, namespace string, pods []corev1.Pod) error {
			return r.visit(ctx, namespace, pods, func(reconcile.Request) { b.Error("a pod that is settled is added") })
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
