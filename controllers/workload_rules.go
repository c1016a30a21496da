package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/internal/workloads"
)

// WorkloadRules computes the rules of the webhook for workloads from the CustomResourceDefinitions that exist, of which it
// reads the metadata alone. It runs in every replica, since it writes nothing.
type WorkloadRules struct {
	// Client reads the metadata of CustomResourceDefinitions from the cache. Required.
	Client client.Reader
	// Groups are the API groups whose custom resources are looked at.
	Groups workloads.Groups

	mu      sync.Mutex
	rules   []admissionregistrationv1.RuleWithOperations
	changes chan event.GenericEvent
}

// CustomResourceDefinitions is the metadata of a CustomResourceDefinition, for caches to know the kind by.
func CustomResourceDefinitions() *metav1.PartialObjectMetadata {
	crd := &metav1.PartialObjectMetadata{}
	crd.SetGroupVersionKind(crdKind)
	return crd
}

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// TrimCRD is a cache transform that leaves of a CustomResourceDefinition's metadata what WorkloadRules reads: annotations
// may hold the schemas all over again.
func TrimCRD(object any) (any, error) {
	if crd, ok := object.(*metav1.PartialObjectMetadata); ok {
		crd.Annotations, crd.Labels, crd.ManagedFields, crd.OwnerReferences, crd.Finalizers = nil, nil, nil, nil, nil
	}
	return object, nil
}

// SetupWithManager registers the controller.
func (r *WorkloadRules) SetupWithManager(mgr ctrl.Manager) error {
	r.Changes()
	crds := CustomResourceDefinitions()
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{}} // whichever changed, the rules are computed from all of them
	})
	err := ctrl.NewControllerManagedBy(mgr).Named("workload-rules").
		WatchesMetadata(crds, all, builder.WithPredicates(predicate.Funcs{
			UpdateFunc: func(e event.UpdateEvent) bool {
				return e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero()
			},
		})).
		WithOptions(controller.Options{NeedLeaderElection: ptr.To(false)}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("watching CustomResourceDefinitions: %w", err)
	}
	return nil
}

// Reconcile computes the rules, and tells of it when they are others than before.
func (r *WorkloadRules) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	crds := &metav1.PartialObjectMetadataList{}
	crds.SetGroupVersionKind(crdKind.GroupVersion().WithKind(crdKind.Kind + "List"))
	if err := r.Client.List(ctx, crds); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing CustomResourceDefinitions: %w", err)
	}
	var names []string
	for i := range crds.Items {
		if crds.Items[i].DeletionTimestamp.IsZero() {
			names = append(names, crds.Items[i].Name)
		}
	}
	rules, complete := workloads.Rules(names, r.Groups)
	if !complete {
		logf.FromContext(ctx).Info("There are more custom resources than the webhook for workloads has rules for; the last by name are not looked at")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if equality.Semantic.DeepEqual(r.rules, rules) {
		return ctrl.Result{}, nil
	}
	r.rules = rules
	select {
	case r.changes <- event.GenericEvent{Object: CustomResourceDefinitions()}:
	default: // a change that nobody has taken yet tells of this one too
	}
	return ctrl.Result{}, nil
}

// Rules are the rules as of now: those for the built-in kinds until CustomResourceDefinitions were read.
func (r *WorkloadRules) Rules() []admissionregistrationv1.RuleWithOperations {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rules == nil {
		rules, _ := workloads.Rules(nil, nil)
		return rules
	}
	return slices.Clone(r.rules)
}

// Changes tells whenever Rules returns others than before: for source.Channel of the one controller that writes them.
func (r *WorkloadRules) Changes() <-chan event.GenericEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changes == nil {
		r.changes = make(chan event.GenericEvent, 1)
	}
	return r.changes
}
