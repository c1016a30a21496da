package main

import (
	"context"
	"fmt"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
)

// seatKeeping is what all share who give, take or look at seats.
type seatKeeping struct {
	view    *seatbook.View
	book    *seatbook.Book
	queue   *controllers.SeatQueue
	metrics *controllers.SeatMetrics
}

func newSeatKeeping(mgr manager.Manager, now clock.PassiveClock, view *seatbook.View) (seatKeeping, error) {
	keeping := seatKeeping{
		view:  view,
		book:  seatbook.New(seatbook.Options{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), View: view, Registerer: metrics.Registry}),
		queue: controllers.NewSeatQueue(),
	}
	var err error
	if keeping.metrics, err = controllers.NewSeatMetrics(metrics.Registry, view, keeping.queue, now, mgr.Elected()); err != nil {
		return seatKeeping{}, fmt.Errorf("registering the metrics of seats: %w", err)
	}
	return keeping, nil
}

// addPods decides on stored pods, and takes the seats of those that wait.
func addPods(mgr manager.Manager, now clock.PassiveClock, keeping seatKeeping, store *rights.Store, log *audit.Log) error {
	pods := &controllers.PodReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Rights: store, Audit: log, Events: mgr.GetEventRecorder(component), Clock: now,
		Seats: &controllers.SeatAllocator{
			Queue: keeping.queue, Ledgers: keeping.view, Book: keeping.book, Rights: store, Pods: mgr.GetClient(), Clock: now,
			Waited: keeping.metrics.Waited,
		},
	}
	if err := pods.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the pod controller: %w", err)
	}
	return nil
}

// addSeatEnds ends seats, and says in status what is in use.
func addSeatEnds(ctx context.Context, mgr manager.Manager, o options, now clock.PassiveClock, keeping seatKeeping, log *audit.Log) error {
	pods := controllers.NewSeatPods(now, keeping.view)
	ends := &controllers.SeatEndReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Ledgers: keeping.view, Book: keeping.book, Pods: pods,
		Audit: log, Events: mgr.GetEventRecorder(component), Clock: now,
		Protected: o.protected(),
	}
	if err := ends.SetupWithManager(ctx, mgr); err != nil {
		return fmt.Errorf("adding the controller of the ends of seats: %w", err)
	}
	status := &controllers.SeatStatusReconciler{Client: mgr.GetClient(), Ledgers: keeping.view, Queue: keeping.queue, Pods: pods, Clock: now}
	if err := status.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the controller of the status of seats: %w", err)
	}
	return nil
}
