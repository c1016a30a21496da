package controllers

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// shownGrants finds, by licence, the grants whose status speaks of seats, or has to: of a hundred thousand grants most
// have never been used. It is safe for concurrent use.
type shownGrants struct {
	mu        sync.Mutex
	byLicense map[string]map[types.NamespacedName]bool
}

// of lists the grants of a licence, in no order.
func (s *shownGrants) of(license string) []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.byLicense[license]))
}

// handler follows grants, and queues the licences of those that are written or come.
func (s *shownGrants) handler() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { s.follow(nil, e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { s.follow(e.ObjectOld, e.ObjectNew, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { s.follow(e.Object, nil, q) },
	}
}

func (s *shownGrants) follow(before, after client.Object, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	was, _ := before.(*v1alpha1.ModelGrant)
	is, _ := after.(*v1alpha1.ModelGrant)
	if s.note(was, is) {
		queue.Add(reconcile.Request{NamespacedName: client.ObjectKey{Name: is.Spec.LicenseName}})
	}
}

// note takes notice of a grant's state and of that before, nil where there is none, and says whether its status is to be
// looked at.
func (s *shownGrants) note(before, after *v1alpha1.ModelGrant) bool {
	was, is := shownFor(before), shownFor(after)
	if was != is {
		s.set(was, before, false)
		s.set(is, after, true)
	}
	return is != "" && (was != is || before.UID != after.UID || before.Generation != after.Generation)
}

func (s *shownGrants) set(license string, grant *v1alpha1.ModelGrant, shown bool) {
	if license == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := client.ObjectKeyFromObject(grant)
	if !shown {
		if delete(s.byLicense[license], name); len(s.byLicense[license]) == 0 {
			delete(s.byLicense, license)
		}
		return
	}
	if s.byLicense == nil {
		s.byLicense = map[string]map[types.NamespacedName]bool{}
	}
	if s.byLicense[license] == nil {
		s.byLicense[license] = map[types.NamespacedName]bool{}
	}
	s.byLicense[license][name] = true
}

// shownFor is the licence of a grant whose status speaks of seats, or has to; "" of any other.
func shownFor(grant *v1alpha1.ModelGrant) string {
	if grant == nil || grant.Status.Seats == nil && len(grant.Spec.Limits) == 0 {
		return ""
	}
	return grant.Spec.LicenseName
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
