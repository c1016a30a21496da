package controllers

import (
	"context"

	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// ownObjects is how a controller hears of the objects that it keeps: those whose spec is written, or that are removed.
// What was there before comes little by little.
type ownObjects[T client.Object] struct {
	history *history
	// writes are those of statuses, which updates show. Optional.
	writes  *ownWrites
	backlog backlog
	// describe says what an object is, observed which generation its status speaks of.
	describe func(T) (incarnation, error)
	observed func(T) int64
	// noted is called with each state that follows another, before anything is queued for it. Optional.
	noted func(before, after T)
}

func (o *ownObjects[T]) handler() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	var none T
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if object, ok := e.Object.(T); ok {
				o.note(none, object)
			}
			if e.IsInInitialList {
				o.backlog.add(ctx, q, requestFor(e.Object))
				return
			}
			q.Add(requestFor(e.Object))
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, ok1 := e.ObjectOld.(T)
			after, ok2 := e.ObjectNew.(T)
			if ok1 && ok2 {
				o.follow(ctx, before, after)
				o.note(before, after)
			}
			if e.ObjectOld.GetUID() != e.ObjectNew.GetUID() || e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() {
				q.Add(requestFor(e.ObjectNew))
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			if object, ok := e.Object.(T); ok {
				o.end(ctx, object)
				o.note(object, none)
			}
			q.Add(requestFor(e.Object))
		},
	}
}

func (o *ownObjects[T]) note(before, after T) {
	if o.noted != nil {
		o.noted(before, after)
	}
}

// follow tells the history what an update shows: another object of the same name, or that the status has caught up.
func (o *ownObjects[T]) follow(ctx context.Context, before, after T) {
	if before.GetUID() != after.GetUID() {
		o.end(ctx, before)
		return
	}
	if o.writes != nil {
		o.writes.behind(after) // if it is not, that is all that has to be known
	}
	o.history.caughtUp(client.ObjectKeyFromObject(after), after.GetUID(), o.observed(after))
}

func (o *ownObjects[T]) end(ctx context.Context, object T) {
	last, err := o.describe(object)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot say what an object was that is gone", "object", client.ObjectKeyFromObject(object))
		return
	}
	o.history.ended(last, o.observed(object))
}

func requestFor(o client.Object) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKeyFromObject(o)}
}
