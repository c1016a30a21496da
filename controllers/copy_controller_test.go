package controllers

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/test/builders"
)

// compared is a CopyReconciler that knows an image of each licence of a world, by digestA for chat and digestB for other.
func compared(t testing.TB, w world) *CopyReconciler {
	t.Helper()
	clock := testingclock.NewFakePassiveClock(noon)
	index := &copies.Index{}
	r := &CopyReconciler{Rights: fixedRights{w.snapshot(t)}, Index: index, layers: newCopyLayers(&scriptedLayers{}, clock), Clock: clock}
	t.Cleanup(r.layers.queue.ShutDown)
	index.Subscribe(func(license string) { r.loaded.Store(license, true) })
	for license, digest := range map[string]string{"chat": digestA, "other": digestB} {
		index.Set(license, []copies.Image{{Reference: "registry.example.com/models/" + license + ":1", Digest: digest, Vouched: true}})
	}
	return r
}

// reported is a pod whose containers run images by these digests.
func reported(pod *corev1.Pod, digests ...string) *corev1.Pod {
	pod.Status.ContainerStatuses = nil
	for i, c := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, ImageID: digests[i]})
	}
	return pod
}

// TestCopyStanding takes a pod through changes of what is known, and sees what is logged at each.
func TestCopyStanding(t *testing.T) {
	both := world{[]*v1alpha1.ModelLicense{chatLicense(), otherLicense()}, []*v1alpha1.ModelGrant{chatGrant()}}
	chatAlone := world{[]*v1alpha1.ModelLicense{chatLicense()}, nil}
	const renamed = "elsewhere.example.com/renamed"
	type step struct {
		world    world
		digests  []string
		unlogged int
		licenses string
	}
	for name, test := range map[string]struct {
		images []string
		steps  []step
	}{
		"no copy":                       {[]string{renamed}, []step{{both, []string{digestOfText("x")}, 0, "[]"}}},
		"nothing reported":              {[]string{renamed}, []step{{both, []string{""}, 0, "[]"}}},
		"a copy, once":                  {[]string{renamed}, []step{{both, []string{digestA}, 1, "[chat]"}, {both, []string{digestA}, 0, "[chat]"}}},
		"the licence's own image":       {[]string{chatImage}, []step{{both, []string{digestA}, 0, "[]"}}},
		"another licence's repository":  {[]string{chatImage}, []step{{both, []string{digestB}, 1, "[other]"}}},
		"beside the licence's own":      {[]string{chatImage, renamed}, []step{{both, []string{digestA, digestA}, 1, "[chat]"}}},
		"copies of two":                 {[]string{renamed, renamed}, []step{{both, []string{digestA, digestB}, 2, "[chat other]"}, {both, []string{digestA, digestB}, 0, "[chat other]"}}},
		"by the image's ID":             {[]string{digestA}, []step{{both, []string{digestA}, 1, "[chat]"}}},
		"the licence is gone":           {[]string{renamed}, []step{{both, []string{digestB}, 1, "[other]"}, {chatAlone, []string{digestB}, 0, "[]"}}},
		"another image takes its place": {[]string{renamed}, []step{{both, []string{digestA}, 1, "[chat]"}, {both, []string{digestOfText("x")}, 0, "[]"}}},
		"a second copy comes":           {[]string{renamed, renamed}, []step{{both, []string{digestA, ""}, 1, "[chat]"}, {both, []string{digestA, digestB}, 1, "[chat other]"}}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := storedPod(test.images...)
			for i, step := range test.steps {
				r := compared(t, step.world)
				s, _ := r.Rights.Snapshot()
				stands := r.stand(reported(pod, step.digests...), nil, s)
				if n := len(stands.unlogged()); n != step.unlogged || fmt.Sprint(stands.licenses()) != step.licenses {
					t.Errorf("step %d: %d unlogged, copies of %v, want %d of %s", i, n, stands.licenses(), step.unlogged, step.licenses)
				}
				setPodCondition(pod, v1alpha1.PodConditionCopy, stands.desired(noon))
				if again := r.stand(pod, nil, s); !again.settled() {
					t.Errorf("step %d: the condition does not settle it: %+v", i, again.condition)
				}
			}
		})
	}
}

// TestCopyClaims: what a condition says stays until the licence's images are known again.
func TestCopyClaims(t *testing.T) {
	w := world{[]*v1alpha1.ModelLicense{chatLicense(), otherLicense()}, nil}
	r := compared(t, w)
	s, _ := r.Rights.Snapshot()
	pod := reported(storedPod("elsewhere.example.com/renamed"), digestA)
	setPodCondition(pod, v1alpha1.PodConditionCopy, r.stand(pod, nil, s).desired(noon))

	restarted := compared(t, w)
	restarted.Index = &copies.Index{}
	restarted.loaded.Clear()
	stands := restarted.stand(pod, nil, s)
	if !stands.settled() || fmt.Sprint(stands.licenses()) != "[chat]" || stands.desired(noon) == nil {
		t.Errorf("after a restart: settled %v, copies of %v", stands.settled(), stands.licenses())
	}
	if wanted(stands.copies) {
		t.Error("a claim evicts")
	}
	restarted.loaded.Store("chat", true)
	if stands := restarted.stand(pod, nil, s); stands.settled() || stands.desired(noon) != nil {
		t.Error("a claim outlives what disproves it")
	}
}

// TestWanted: what another licence entitles the pod to is reported, and not evicted.
func TestWanted(t *testing.T) {
	other := otherLicense()
	other.Spec.Terms.OnCopy = v1alpha1.CopyPolicyEvict
	r := compared(t, world{[]*v1alpha1.ModelLicense{chatLicense(), other}, []*v1alpha1.ModelGrant{chatGrant()}})
	s, _ := r.Rights.Snapshot()
	for name, test := range map[string]struct {
		images []string
		want   bool
	}{
		"nobody's": {[]string{"elsewhere.example.com/renamed"}, true},
		"another licence's, to which it has a right": {[]string{chatImage}, false},
		"both": {[]string{chatImage, "elsewhere.example.com/renamed"}, true},
	} {
		stands := r.stand(reported(storedPod(test.images...), digestB, digestB), nil, s)
		if len(stands.copies) != 1 || wanted(stands.copies) != test.want {
			t.Errorf("%s: %d copies, evicted: %v", name, len(stands.copies), wanted(stands.copies))
		}
	}
}

// TestEvictable: what is never evicted.
func TestEvictable(t *testing.T) {
	e := &evictor{protected: []string{"kube-system", "modelrights-system"}}
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"a pod":                          {builders.Pod("ml", "a").Owner("apps/v1", "ReplicaSet", "a", "u").Obj(), true},
		"in kube-system":                 {builders.Pod("kube-system", "a").Obj(), false},
		"in ours":                        {builders.Pod("modelrights-system", "a").Obj(), false},
		"a mirror by its annotation":     {builders.Pod("ml", "a").Annotation(corev1.MirrorPodAnnotationKey, "x").Obj(), false},
		"one that claims to be a node's": {builders.Pod("ml", "a").Owner("v1", "Node", "n", "u").Obj(), true},
		"in a namespace of like name":    {builders.Pod("kube-system-2", "a").Obj(), true},
	} {
		if got := e.evictable(test.pod); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestEvictionsAreBounded: a mistaken licence ends ten pods at once, and one a second.
func TestEvictionsAreBounded(t *testing.T) {
	var e evictor
	allowed := 0
	for range 1000 {
		if _, wait := e.turn(storedPod(), noon); wait == 0 {
			allowed++
		}
	}
	if allowed != evictionBurst {
		t.Errorf("%d at once", allowed)
	}
}

// TestEvictionsThatAreNotAllowed: a budget or a webhook that lets no pod go holds up no other pod's eviction, and ends no copy's.
func TestEvictionsThatAreNotAllowed(t *testing.T) {
	for name, refusal := range map[string]error{
		"by a budget":            apierrors.NewTooManyRequests("disruption budget", 0),
		"by a webhook, with 404": answered(http.StatusNotFound, `admission webhook "stay.example.com" denied the request: no such pod`),
		"by a webhook, with 409": answered(http.StatusConflict, `admission webhook "stay.example.com" denied the request: a conflict`),
	} {
		t.Run(name, func(t *testing.T) { evictionsNotAllowed(t, refusal) })
	}
}

func evictionsNotAllowed(t *testing.T, refusal error) {
	t.Helper()
	stuck, free := storedPod(), storedPod()
	stuck.Name, free.Name = "stuck", "free"
	c := interceptor.NewClient(fake.NewClientBuilder().WithObjects(stuck, free).Build(), interceptor.Funcs{
		SubResourceCreate: func(_ context.Context, _ client.Client, _ string, o, _ client.Object, _ ...client.SubResourceCreateOption) error {
			if o.GetName() == "stuck" {
				return refusal
			}
			return nil
		},
	})
	e := evictor{client: c}
	for i := range 3 * evictionBurst {
		pod := stuck.DeepCopy()
		pod.UID = types.UID(fmt.Sprint(i))
		if wait, done, err := e.evict(t.Context(), pod, noon); wait == 0 || done || err != nil {
			t.Fatalf("wait %v, done %v, error %v", wait, done, err)
		}
	}
	if _, done, err := e.evict(t.Context(), free, noon); !done || err != nil {
		t.Errorf("done %v, error %v", done, err)
	}
}

func TestCopiesMessage(t *testing.T) {
	ref := func(name string) PodRef { return PodRef{Namespace: "ml", Name: name} }
	for want, pods := range map[string][]PodRef{
		"1 pod runs an unlicensed copy: ml/a":                                   {ref("a")},
		"2 pods run unlicensed copies: ml/a, ml/b":                              {ref("a"), ref("b")},
		"7 pods run unlicensed copies: ml/a, ml/b, ml/c, ml/d, ml/e and 2 more": {ref("a"), ref("b"), ref("c"), ref("d"), ref("e"), ref("f"), ref("g")},
	} {
		if got := copiesMessage(pods); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func digestOfText(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }

// BenchmarkCopySweep compares 500 pods of two containers with the images of 10,000 licences; 50,000 pods cost a hundred
// times as much.
func BenchmarkCopySweep(b *testing.B) {
	r := compared(b, world{licenses: []*v1alpha1.ModelLicense{chatLicense()}})
	index := r.Index.(*copies.Index)
	for i := range 10_000 {
		index.Set(fmt.Sprintf("l-%d", i), []copies.Image{{Digest: digestOfText(fmt.Sprint(i)), Vouched: true}})
	}
	var pods []corev1.Pod
	for i := range 500 {
		pod := reported(storedPod("example.com/app", "example.com/proxy"), "example.com/app@"+digestOfText(fmt.Sprint("app", i%50)), "example.com/proxy@"+digestOfText("proxy"))
		pod.Name = fmt.Sprintf("p-%d", i)
		pods = append(pods, *pod)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := r.visit(b.Context(), "ml", pods, func(PodRef) { b.Error("a pod is accused") }); err != nil {
			b.Fatal(err)
		}
	}
}
