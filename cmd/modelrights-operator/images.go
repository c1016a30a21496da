package main

import (
	"context"
	"fmt"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"modelrights.dev/modelrights/controllers"
)

// addImages resolves the images of licences, and says on which nodes they lie.
func addImages(ctx context.Context, mgr ctrl.Manager, o options, r *recognition) error {
	resolution := &controllers.ImageReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: o.namespace, Registry: r.client, Accesses: r.resolver,
		Index: r.index, Events: mgr.GetEventRecorder(component), Clock: clock.RealClock{}, Interval: o.resolveInterval,
	}
	if err := resolution.SetupWithManager(ctx, mgr); err != nil {
		return fmt.Errorf("adding the image controller: %w", err)
	}
	distribution := &controllers.DistributionReconciler{Client: mgr.GetClient(), Settle: controllers.DistributionSettle}
	if err := distribution.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the controller of images' distribution: %w", err)
	}
	return nil
}
