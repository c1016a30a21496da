package controllers

import (
	"context"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// grantIndex finds grants by the licence they name. It takes a tenth of the memory that an index of the cache does, which
// keeps two sets of keys for each value. It is safe for concurrent use.
type grantIndex struct {
	mu        sync.Mutex
	byLicense map[string][]types.NamespacedName
}

// note takes notice of a grant's state and of that before; nil where there is none.
func (x *grantIndex) note(before, after *v1alpha1.ModelGrant) {
	if before != nil && after != nil && before.Spec.LicenseName == after.Spec.LicenseName {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if before != nil {
		license := before.Spec.LicenseName
		grants := x.byLicense[license]
		if i := slices.Index(grants, client.ObjectKeyFromObject(before)); i >= 0 {
			last := len(grants) - 1
			grants[i], grants[last] = grants[last], types.NamespacedName{}
			x.byLicense[license] = grants[:last]
		}
		if len(x.byLicense[license]) == 0 {
			delete(x.byLicense, license)
		}
	}
	if after != nil {
		if x.byLicense == nil {
			x.byLicense = map[string][]types.NamespacedName{}
		}
		license := after.Spec.LicenseName
		x.byLicense[license] = append(x.byLicense[license], client.ObjectKeyFromObject(after))
	}
}

// requests are those for the grants of a licence.
func (x *grantIndex) requests(license string) []reconcile.Request {
	x.mu.Lock()
	defer x.mu.Unlock()
	grants := x.byLicense[license]
	requests := make([]reconcile.Request, len(grants))
	for i, name := range grants {
		requests[i].NamespacedName = name
	}
	return requests
}

// readyGrants counts the grants of each licence that count. It is safe for concurrent use.
type readyGrants struct {
	mu     sync.Mutex
	counts map[string]int32
}

// of is how many grants of a licence count.
func (r *readyGrants) of(license string) int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[license]
}

// handler counts, and queues the licences whose numbers have changed.
func (r *readyGrants) handler() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { r.follow(nil, e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { r.follow(e.ObjectOld, e.ObjectNew, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { r.follow(e.Object, nil, q) },
	}
}

func (r *readyGrants) follow(before, after client.Object, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	was, is := countedFor(before), countedFor(after)
	if was == is {
		return
	}
	r.add(was, -1)
	r.add(is, 1)
	for _, license := range []string{was, is} {
		if license != "" {
			queue.Add(reconcile.Request{NamespacedName: client.ObjectKey{Name: license}})
		}
	}
}

func (r *readyGrants) add(license string, n int32) {
	if license == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[string]int32{}
	}
	if r.counts[license] += n; r.counts[license] == 0 {
		delete(r.counts, license)
	}
}

// countedFor is the licence for which a grant counts; "" where it does for none, or there is no grant.
func countedFor(o client.Object) string {
	grant, ok := o.(*v1alpha1.ModelGrant)
	if !ok || !meta.IsStatusConditionTrue(grant.Status.Conditions, v1alpha1.ConditionReady) {
		return ""
	}
	return grant.Spec.LicenseName
}
