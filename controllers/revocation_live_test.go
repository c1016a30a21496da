package controllers

import (
	"context"
	"errors"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
)

func revocationScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

// countedRights counts live reads, and fails as told.
type countedRights struct {
	fixedRights
	mu    sync.Mutex
	reads int
	err   error
}

func (r *countedRights) Live(context.Context, string) (*entitlement.Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	return r.snapshot, r.err
}

func TestSharedReads(t *testing.T) {
	stored := builders.License("chat").Generation(2).Obj()
	gets := 0
	api := fake.NewClientBuilder().WithScheme(revocationScheme(t)).WithObjects(stored).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			gets++
			return c.Get(ctx, key, o, opts...)
		},
	}).Build()
	empty, err := entitlement.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	rights, now := &countedRights{fixedRights: fixedRights{empty}}, testingclock.NewFakePassiveClock(noon)
	shared := &sharedReads{rights: rights, live: api, clock: now}
	read := func(cached *entitlement.Snapshot, labels map[string]string) *entitlement.Snapshot {
		t.Helper()
		s, _, err := shared.namespace(t.Context(), "ml", cached, labels, []string{"chat"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { read(empty, nil) })
	}
	all.Wait()
	if rights.reads != 1 || gets != 1 {
		t.Errorf("fifty pods of a namespace cost %d reads of it and %d of the licence", rights.reads, gets)
	}
	if s := read(empty, nil); s.License("chat") == nil {
		t.Error("the licence that no grant names is not as the API server has it")
	}
	another := empty.Apply(entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{"x": builders.License("x").Obj()}})
	if read(another, nil); rights.reads != 2 {
		t.Error("a read is shared that began before the change")
	}
	if read(another, map[string]string{"a": "b"}); rights.reads != 3 {
		t.Error("a read is shared that began before the namespace's labels changed")
	}
	now.SetTime(noon.Add(readShared))
	if read(another, map[string]string{"a": "b"}); rights.reads != 4 {
		t.Error("a read is shared for too long")
	}
	rights.err = errors.New("no etcd")
	now.SetTime(noon.Add(3600 * readShared))
	if _, _, err := shared.namespace(t.Context(), "ml", another, nil, nil); err == nil {
		t.Error("a read that fails says something")
	}
	rights.err = nil
	if read(another, nil); rights.reads != 6 {
		t.Error("a read that failed is shared")
	}
}

func TestSharedNodes(t *testing.T) {
	fails := errors.New("no etcd")
	var answer error
	gets := 0
	api := fake.NewClientBuilder().WithScheme(revocationScheme(t)).WithObjects(&corev1.Node{}).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
			gets++
			o.SetLabels(map[string]string{"region": "eu"})
			return answer
		},
	}).Build()
	now := testingclock.NewFakePassiveClock(noon)
	shared := &sharedReads{live: api, clock: now}
	for range 3 {
		labels, known, err := shared.node(t.Context(), "n1", nil)
		if err != nil || !known || labels["region"] != "eu" {
			t.Errorf("%v, %v, %v", labels, known, err)
		}
	}
	if gets != 1 {
		t.Errorf("%d reads", gets)
	}
	answer = absentPod
	if _, known, err := shared.node(t.Context(), "n1", map[string]string{"a": "b"}); err != nil || known || gets != 2 {
		t.Errorf("a node that is gone: %v, %v", known, err)
	}
	answer = fails
	if _, _, err := shared.node(t.Context(), "n2", nil); err == nil {
		t.Error("a read that fails says something")
	}
	answer = nil
	if _, known, err := shared.node(t.Context(), "n2", nil); err != nil || !known {
		t.Errorf("a read that failed is shared: %v, %v", known, err)
	}
}
