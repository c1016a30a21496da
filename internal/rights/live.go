package rights

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

const (
	// liveRate and liveBurst bound the live reads of one replica a second, so that a tenant who retries a denied
	// workload for ever costs the API server little.
	liveRate  = 100
	liveBurst = 200

	// liveTimeout ends a read that a webhook's caller, who waits 3 s in all, no longer waits for.
	liveTimeout = 2 * time.Second

	// livePage is how many grants are read at once.
	livePage = 500
)

// liveReader reads a namespace's grants and the licences they name from the API server.
type liveReader struct {
	api     client.Reader
	flights singleflight.Group
	limiter *rate.Limiter
}

func newLiveReader(api client.Reader) *liveReader {
	return &liveReader{api: api, limiter: rate.NewLimiter(liveRate, liveBurst)}
}

// found is what a live read saw: the namespace's grants by name, and for each licence that they name its state, nil
// where there is none.
type found struct {
	grants   map[string]*v1alpha1.ModelGrant
	licenses map[string]*v1alpha1.ModelLicense
}

// read joins a read of the namespace that waits for its turn, or queues one. A read that has begun is never joined: it
// may have passed the grant by that was written just before this call.
func (l *liveReader) read(ctx context.Context, namespace string) (*found, error) {
	result := l.flights.DoChan(namespace, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), liveTimeout)
		defer cancel()
		if err := l.limiter.Wait(ctx); err != nil {
			return nil, fmt.Errorf("too many live reads at once: %w", err)
		}
		l.flights.Forget(namespace)
		return l.fetch(ctx, namespace)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("reading grants of namespace %s: %w", namespace, ctx.Err())
	case r := <-result:
		f, _ := r.Val.(*found)
		return f, r.Err
	}
}

func (l *liveReader) fetch(ctx context.Context, namespace string) (*found, error) {
	f := &found{grants: map[string]*v1alpha1.ModelGrant{}, licenses: map[string]*v1alpha1.ModelLicense{}}
	var grants v1alpha1.ModelGrantList
	for {
		opts := []client.ListOption{client.InNamespace(namespace), client.Limit(livePage), client.Continue(grants.Continue)}
		grants = v1alpha1.ModelGrantList{}
		if err := l.api.List(ctx, &grants, opts...); err != nil {
			return nil, fmt.Errorf("reading grants of namespace %s: %w", namespace, err)
		}
		for i := range grants.Items {
			g := &grants.Items[i]
			f.grants[g.Name] = g
			f.licenses[g.Spec.LicenseName] = nil
		}
		if grants.Continue == "" {
			break
		}
	}
	for name := range f.licenses {
		var license v1alpha1.ModelLicense
		err := l.api.Get(ctx, client.ObjectKey{Name: name}, &license)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("reading licence %s: %w", name, err)
		default:
			f.licenses[name] = &license
		}
	}
	return f, nil
}

// changesTo lists what a snapshot lacks of what was found.
func (f *found) changesTo(s *entitlement.Snapshot, namespace string) entitlement.Changes {
	changes := entitlement.Changes{
		Licenses: map[string]*v1alpha1.ModelLicense{},
		Grants:   map[entitlement.GrantKey]*v1alpha1.ModelGrant{},
	}
	known := map[string]*v1alpha1.ModelGrant{}
	for _, g := range s.GrantsIn(namespace) {
		known[g.Name] = g
		if _, still := f.grants[g.Name]; !still {
			changes.Grants[entitlement.GrantKey{Namespace: namespace, Name: g.Name}] = nil
		}
	}
	for name, g := range f.grants {
		if k, ok := known[name]; !ok || !same(k, g) {
			changes.Grants[entitlement.GrantKey{Namespace: namespace, Name: name}] = g
		}
	}
	for name, l := range f.licenses {
		k := s.License(name)
		if unchanged := k == nil && l == nil || k != nil && l != nil && same(k, l); !unchanged {
			changes.Licenses[name] = l
		}
	}
	return changes
}
