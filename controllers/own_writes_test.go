package controllers

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/test/builders"
)

// behindCache shows an object of its kind as it was last shown, whatever is written. Licences' statuses are stored as whole.
type behindCache[T client.Object] struct {
	client.Client
	shown T
}

func newBehindCache[T client.Object](t *testing.T, object T, others ...client.Object) *behindCache[T] {
	t.Helper()
	c := &behindCache[T]{}
	c.Client = fake.NewClientBuilder().WithScheme(revocationScheme(t)).WithObjects(object).WithObjects(others...).WithStatusSubresource(object).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourceApply: func(ctx context.Context, w client.Client, _ string, o runtime.ApplyConfiguration, _ ...client.SubResourceApplyOption) error {
				applied, ok := o.(interface{ UnstructuredContent() map[string]any })
				if !ok {
					t.Fatalf("%T is applied", o)
				}
				stored, status := &v1alpha1.ModelLicense{}, applied.UnstructuredContent()["status"]
				content := unstructured.Unstructured{Object: applied.UnstructuredContent()}
				if err := w.Get(ctx, client.ObjectKeyFromObject(&content), stored); err != nil {
					return err
				}
				part := &v1alpha1.ModelLicenseStatus{}
				if err := runtime.DefaultUnstructuredConverter.FromUnstructured(status.(map[string]any), part); err != nil {
					return err
				}
				stored.Status = *part
				err := w.Status().Update(ctx, stored)
				content.SetResourceVersion(stored.ResourceVersion)
				return err
			},
		}).Build()
	c.show(t, object)
	return c
}

// show has the cache catch up.
func (c *behindCache[T]) show(t *testing.T, object T) {
	t.Helper()
	if err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		t.Fatal(err)
	}
	c.shown, _ = object.DeepCopyObject().(T)
}

func (c *behindCache[T]) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	if _, ok := into.(T); !ok {
		return c.Client.Get(ctx, key, into, options...)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c.shown)
	if err != nil {
		return err
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(content, into)
}

// changesBack has a status written that the cache does not show, and written back: that the cache shows what is wanted, from
// before, is no reason to leave it.
func changesBack[T client.Object](t *testing.T, c *behindCache[T], object T, reconcileIt func() (reconcile.Result, error), change func(there bool), says func(T) string) {
	t.Helper()
	once := func() reconcile.Result {
		t.Helper()
		result, err := reconcileIt()
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	change(true)
	once()
	c.show(t, object)
	want := says(object)
	change(false)
	once()
	change(true)
	if result := once(); result.RequeueAfter != retryBehind {
		t.Errorf("looked at again after %v, while the cache is behind", result.RequeueAfter)
	}
	c.show(t, object)
	if says(object) == want {
		t.Fatal("nothing was written")
	}
	once()
	c.show(t, object)
	if got := says(object); got != want {
		t.Errorf("the status says %s, want %s", got, want)
	}
}

func TestStatusesAreWrittenBack(t *testing.T) {
	clock := testingclock.NewFakePassiveClock(noon)
	t.Run("of a grant", func(t *testing.T) {
		license, grant := builders.License("chat").Repository("registry.example.com/models/chat").NamespaceSelector(map[string]string{"team": "ml"}).Obj(), chatGrant()
		namespace := builders.Namespace("ml").Obj()
		license.Generation, grant.Generation, grant.UID = 1, 1, "g-chat"
		c := newBehindCache(t, grant, license, namespace)
		r := &GrantReconciler{Client: c, Audit: &recordingLog{}, Events: events.NewFakeRecorder(99), Clock: clock}
		label := func(there bool) {
			namespace.Labels = map[string]string{"team": map[bool]string{true: "ml", false: "web"}[there]}
			if err := c.Update(t.Context(), namespace); err != nil {
				t.Fatal(err)
			}
		}
		changesBack(t, c, grant, func() (reconcile.Result, error) {
			return r.Reconcile(t.Context(), reconcileRequest(client.ObjectKeyFromObject(grant)))
		}, label, func(g *v1alpha1.ModelGrant) string {
			return meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady).Reason
		})
	})
	t.Run("of a licence", func(t *testing.T) {
		license := chatLicense()
		c := newBehindCache(t, license)
		r := &LicenseReconciler{Client: c, Audit: &recordingLog{}, Events: events.NewFakeRecorder(99), Clock: clock}
		changesBack(t, c, license, func() (reconcile.Result, error) {
			return r.Reconcile(t.Context(), reconcileRequest(client.ObjectKeyFromObject(license)))
		}, func(there bool) { r.grants.add("chat", map[bool]int32{true: 1, false: -1}[there]) },
			func(l *v1alpha1.ModelLicense) string { return strconv.Itoa(int(*l.Status.Grants)) })
	})
	t.Run("of copies", func(t *testing.T) {
		license := chatLicense()
		c := newBehindCache(t, license)
		r := &CopyStatusReconciler{Client: c, Tracker: &CopyTracker{}, Index: &copies.Index{}, Clock: clock, loaded: map[string]bool{"chat": true}}
		changesBack(t, c, license, func() (reconcile.Result, error) {
			return r.Reconcile(t.Context(), reconcileRequest(client.ObjectKeyFromObject(license)))
		}, func(there bool) {
			running := []string{"chat"}
			if !there {
				running = nil
			}
			r.Tracker.set(PodRef{Namespace: "ml", Name: "copy"}, running)
		}, func(l *v1alpha1.ModelLicense) string {
			return meta.FindStatusCondition(l.Status.Conditions, v1alpha1.ConditionCopiesDetected).Reason
		})
	})
}

// TestOwnWrites: a cached object is behind until it shows what was written, and another of its name is not.
func TestOwnWrites(t *testing.T) {
	pod := func(uid, version string) *corev1.Pod {
		p := storedPod(chatImage)
		p.UID, p.ResourceVersion = "p-"+p.UID, version
		if uid != "" {
			p.UID = "another"
		}
		return p
	}
	var w ownWrites
	for name, test := range map[string]struct {
		cached *corev1.Pod
		want   bool
	}{
		"before": {pod("", "9"), true}, "that": {pod("", "10"), false}, "later": {pod("", "11"), false}, "another": {pod("another", "9"), false},
	} {
		w.wrote(pod("", "10"))
		if got := w.behind(test.cached); got != test.want {
			t.Errorf("%s: behind %v", name, got)
		}
		if len(w.last) > 0 != test.want {
			t.Errorf("%s: %d are remembered", name, len(w.last))
		}
	}
	w.wrote(pod("", "10"))
	if w.forget(client.ObjectKeyFromObject(pod("", ""))); len(w.last) > 0 {
		t.Error("an object that is gone is remembered")
	}
}

// TestCachesAreNotBehindForEver: versions may go back, by a backup that is restored.
func TestCachesAreNotBehindForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w ownWrites
		written, restored := storedPod(chatImage), storedPod(chatImage)
		written.ResourceVersion, restored.ResourceVersion = "10", "7"
		w.wrote(written)
		time.Sleep(longestBehind - time.Second)
		if !w.behind(restored) {
			t.Error("the cache has caught up with a write that it does not show")
		}
		time.Sleep(time.Second)
		if w.behind(restored) || len(w.last) > 0 {
			t.Error("the cache is behind a write that it will never show")
		}
	})
}
