package controllers

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

const (
	// doubtPause is the least time between two reads of all licences.
	doubtPause = 2 * time.Second
	// doubtKept is for how long it is kept of a pod that it was doubted: it asks again long before, unless it is gone.
	doubtKept = time.Minute
	// licensePage is how many licences are read at once.
	licensePage = 500
)

// gateDoubts reads all licences from the API server where it seems that nothing governs a pod with our gate: whoever set the
// gate may have known of a licence that is not in the cache yet. Pods share a read that began after they were doubted.
type gateDoubts struct {
	mu    sync.Mutex
	since map[types.NamespacedName]doubt
	began time.Time
	read  map[string]*v1alpha1.ModelLicense
}

// doubt is since when there is one about a pod.
type doubt struct {
	uid types.UID
	at  time.Time
}

// licenses returns what of the licences is other than in a snapshot; or for how long to wait before asking again.
func (d *gateDoubts) licenses(ctx context.Context, live client.Reader, pod types.NamespacedName, uid types.UID, known *entitlement.Snapshot) (changed map[string]*v1alpha1.ModelLicense, wait time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if d.since == nil {
		d.since = map[types.NamespacedName]doubt{}
	}
	if d.since[pod].uid != uid {
		d.since[pod] = doubt{uid, now}
	}
	if d.began.Before(d.since[pod].at) {
		if wait := doubtPause - now.Sub(d.began); !d.began.IsZero() && wait > 0 {
			return nil, wait, nil
		}
		changed := map[string]*v1alpha1.ModelLicense{}
		var list v1alpha1.ModelLicenseList
		for {
			options := []client.ListOption{client.Limit(licensePage), client.Continue(list.Continue)}
			list = v1alpha1.ModelLicenseList{}
			if err := live.List(ctx, &list, options...); err != nil {
				return nil, 0, fmt.Errorf("reading licences: %w", err)
			}
			for i := range list.Items {
				l := &list.Items[i]
				if k := known.License(l.Name); k == nil || k.UID != l.UID || k.Generation != l.Generation {
					changed[l.Name] = l
				}
			}
			if list.Continue == "" {
				break
			}
		}
		d.began, d.read = now, changed
		maps.DeleteFunc(d.since, func(_ types.NamespacedName, asked doubt) bool { return now.Sub(asked.at) > doubtKept })
	}
	delete(d.since, pod)
	return d.read, 0, nil
}

// freeGated removes our gate from a pod that no licence keeps waiting: its image is governed no more, or its licences do not
// enforce. Seats that it has are given back first.
func (r *PodReconciler) freeGated(ctx context.Context, known *corev1.Pod) (ctrl.Result, error) {
	name := client.ObjectKeyFromObject(known)
	snapshot, labels, err := r.liveRights(ctx, known.Namespace)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	licenses, wait, err := r.doubts.licenses(ctx, r.Live, name, known.UID, snapshot)
	if err != nil || wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, err
	}
	snapshot = snapshot.Apply(entitlement.Changes{Licenses: licenses})
	if done, err := r.leave(ctx, known); err != nil {
		return ctrl.Result{}, err
	} else if !done {
		return ctrl.Result{RequeueAfter: retryTaking}, nil
	}
	pod := &corev1.Pod{}
	if err := r.Live.Get(ctx, name, pod); err != nil || pod.UID != known.UID || !isGated(pod) {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if g := r.standGated(pod, labels, snapshot); len(g.denied) > 0 || len(g.needs) > 0 {
		return ctrl.Result{RequeueAfter: retryStale}, nil // the cache is behind
	}
	if _, err := ungate(ctx, r.Client, pod, nil); apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: retryConflict}, nil
	} else if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	return ctrl.Result{}, nil
}
