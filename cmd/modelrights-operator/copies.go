package main

import (
	"fmt"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/registry"
	"modelrights.dev/modelrights/internal/rights"
)

// recognition is what copies are recognised by.
type recognition struct {
	// client reads registries, resolver on the hosts of all licences and governed repositories.
	client   *registry.Client
	resolver *registry.Resolver
	// index knows the licensed images, tracker the pods that run copies of them.
	index   *copies.Index
	tracker *controllers.CopyTracker
}

func newRecognition(o options) (*recognition, error) {
	hosts := make([]string, 0, len(o.governedRepositories))
	for _, repository := range o.governedRepositories {
		pattern, err := images.ParsePattern(repository)
		if err != nil {
			return nil, fmt.Errorf("--governed-repository: %w", err)
		}
		hosts = append(hosts, pattern[0])
	}
	roots, err := registryRoots(o.registryCAFile)
	if err != nil {
		return nil, err
	}
	client, err := registry.NewClient(registry.Options{RootCAs: roots, PlainHTTP: o.plainHTTPRegistries})
	if err != nil {
		return nil, fmt.Errorf("--plain-http-registry: %w", err)
	}
	r := &recognition{client: client, index: &copies.Index{}, tracker: &controllers.CopyTracker{}}
	if r.resolver, err = registry.NewResolver(r.client, hosts); err != nil {
		return nil, fmt.Errorf("--governed-repository: %w", err)
	}
	return r, nil
}

// addCopies compares running pods with licensed images.
func addCopies(mgr ctrl.Manager, o options, now clock.PassiveClock, r *recognition, store *rights.Store, log *audit.Log) error {
	reconciler := &controllers.CopyReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Rights: store, Index: r.index, Layers: r.resolver, Tracker: r.tracker,
		Audit: log, Events: mgr.GetEventRecorder(component), Clock: now,
		Protected: o.protected(),
	}
	if err := reconciler.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the copy controller: %w", err)
	}
	status := &controllers.CopyStatusReconciler{Client: mgr.GetClient(), Tracker: r.tracker, Index: r.index, Clock: now}
	if err := status.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the controller of copies' status: %w", err)
	}
	return nil
}
