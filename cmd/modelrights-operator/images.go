package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"

	_ "golang.org/x/crypto/x509roots/fallback" // The operator's image has no list of authorities.
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

// registryRoots are the authorities that the system, or Mozilla where it has none, trusts, and those of a file.
func registryRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the system's certificates: %w", err)
	}
	added, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--registry-ca-file: %w", err)
	}
	if !roots.AppendCertsFromPEM(added) {
		return nil, fmt.Errorf("--registry-ca-file %s holds no certificate in PEM", file)
	}
	return roots, nil
}
