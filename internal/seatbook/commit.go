package seatbook

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// stored is a ledger as it is in etcd, as far as is known. Neither of them is changed.
type stored struct {
	object *v1alpha1.ModelSeats // nil where there is none
	ledger *seats.Ledger
	// live is true where it was read, or written, since the changes at hand came in.
	live bool
}

// errMoved means that another writer was faster.
var errMoved = errors.New("another writer was faster")

// commit writes what the calls want, and answers them. It tries until it succeeds, the API server refuses, or nobody waits.
func (b *Book) commit(license string, calls []*call) {
	begun := time.Now()
	base, known := b.newest(license)
	base.live = false
	pause := time.Duration(0)
	for {
		if calls = waiting(calls); len(calls) == 0 {
			return
		}
		err := error(nil)
		if !known {
			base, err = b.read(calls, license)
		}
		if err == nil {
			var results [][]seats.Result
			if results, err = b.attempt(license, base, calls); err == nil {
				b.metrics.committed(time.Since(begun), calls)
				answer(calls, results)
				return
			}
		}
		known = false
		b.memory.forget(license)
		switch {
		case errors.Is(err, errMoved):
			b.metrics.conflicts.Inc()
			pause = 0
			continue
		case errors.Is(err, errUnconfirmed):
			continue
		case errors.Is(err, ErrUndecodable), refuses(err):
			b.metrics.failed("refused")
			fail(calls, err)
			return
		}
		b.metrics.failed("retried")
		pause = min(max(2*pause, 20*time.Millisecond), b.options.MaxBackoff)
		if !sleep(calls, pause) {
			fail(calls, err)
			return
		}
	}
}

// newest is the newest ledger that is known without asking: what was written here last, or what informers show. It may be
// behind all the same, which the write finds out.
func (b *Book) newest(license string) (stored, bool) {
	written, remembered := b.memory.get(license)
	if b.options.View == nil {
		return written, remembered
	}
	shown, there := b.options.View.shown(license)
	if !there || remembered && written.object != nil && !isNewer(shown.object, written.object) {
		return written, remembered
	}
	shown.object = withoutSpec(shown.object)
	return shown, true
}

// isNewer compares resource versions, as clients may since KEP-5504; false where they cannot be.
func isNewer(a, b *v1alpha1.ModelSeats) bool {
	order, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return err == nil && order > 0
}

// errUnconfirmed means that what is in memory is not certain enough for an answer.
var errUnconfirmed = errors.New("the ledger must be read first")

// attempt applies the calls' changes to the ledger and writes it.
func (b *Book) attempt(license string, base stored, calls []*call) ([][]seats.Result, error) {
	next, err := b.begin(license, base, calls)
	if err != nil {
		return nil, err
	}
	results := make([][]seats.Result, len(calls))
	changed := false
	for i, c := range calls {
		for _, change := range c.changes {
			r, err := b.apply(calls, next, license, change)
			if err != nil {
				return nil, err
			}
			changed = changed || r.Changed
			results[i] = append(results[i], r)
		}
	}
	if !changed {
		if !base.live {
			return nil, errUnconfirmed
		}
		if base.ledger != nil {
			b.memory.put(license, base)
		}
		return results, nil
	}
	written, err := b.write(calls, base, next)
	if err != nil {
		return nil, err
	}
	b.memory.put(license, stored{object: written, ledger: next})
	return results, nil
}

// begin is the ledger to which changes are applied; nil where there is none, and none of the changes needs one.
func (b *Book) begin(license string, base stored, calls []*call) (*seats.Ledger, error) {
	if base.ledger != nil {
		return base.ledger.Clone(), nil
	}
	for _, c := range calls {
		for _, change := range c.changes {
			switch change.(type) {
			case seats.Limit, seats.Take, seats.Adopt:
				found, err := b.license(calls, license)
				if err != nil || found == nil {
					return nil, err
				}
				return seats.Empty(found), nil
			}
		}
	}
	return nil, nil
}

// apply applies one change. That a ledger is counted for another licence from now on is confirmed by reading the licence,
// which happens after the ledger was read: so a replica that still knows a deleted licence cannot bring it back. In the same
// way it is found out whether a ledger that is newer than the licence given is right: if not, it follows the licence as read.
func (b *Book) apply(calls []*call, l *seats.Ledger, license string, change seats.Change) (seats.Result, error) {
	if l == nil {
		return withoutLedger(license, change), nil
	}
	if limit, ok := change.(seats.Limit); ok {
		limit.Confirmed = false
		if given := limit.License; given != nil && (given.UID != l.LicenseUID() || given.Generation < l.Generation()) {
			found, err := b.license(calls, license)
			switch {
			case err != nil:
				return seats.Result{}, err
			case given.UID != l.LicenseUID():
				limit.Confirmed = found != nil && found.UID == given.UID
			case found != nil && found.UID == given.UID && found.Generation < l.Generation():
				limit.License, limit.Confirmed = found, true
			}
		}
		change = limit
	}
	return l.Apply(change)[0], nil
}

// withoutLedger is what comes of a change where there is no ledger, and no licence from which to make one.
func withoutLedger(license string, change seats.Change) seats.Result {
	switch change.(type) {
	case seats.End, seats.GiveBack:
		return seats.Result{}
	case seats.Limit, seats.Take, seats.Adopt:
		return seats.Result{
			Reason: v1alpha1.ReasonLicenseMissing, Stale: true, Message: "there is no ModelLicense " + license,
		}
	default:
		return seats.Result{Reason: v1alpha1.ReasonNoSeat, Message: "nobody holds a seat of ModelLicense " + license}
	}
}

// withoutSpec is what is kept of an object beside its ledger: what the next write is conditional on.
func withoutSpec(object *v1alpha1.ModelSeats) *v1alpha1.ModelSeats {
	return &v1alpha1.ModelSeats{ObjectMeta: *object.ObjectMeta.DeepCopy()}
}

// read reads a ledger from the API server.
func (b *Book) read(calls []*call, license string) (stored, error) {
	object := &v1alpha1.ModelSeats{}
	err := b.request(calls, func(ctx context.Context) error {
		return b.options.Reader.Get(ctx, client.ObjectKey{Name: license}, object)
	})
	if apierrors.IsNotFound(err) {
		return stored{live: true}, nil
	}
	if err != nil {
		return stored{}, fmt.Errorf("read seat ledger %s: %w", license, err)
	}
	ledger, err := seats.Decode(object)
	if err != nil {
		return stored{}, fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	return stored{object: withoutSpec(object), ledger: ledger, live: true}, nil
}

// license reads a licence from the API server; nil where there is none.
func (b *Book) license(calls []*call, name string) (*v1alpha1.ModelLicense, error) {
	found := &v1alpha1.ModelLicense{}
	err := b.request(calls, func(ctx context.Context) error {
		return b.options.Reader.Get(ctx, client.ObjectKey{Name: name}, found)
	})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ModelLicense %s: %w", name, err)
	}
	return found, nil
}

// write writes a ledger in the place of another.
func (b *Book) write(calls []*call, base stored, next *seats.Ledger) (*v1alpha1.ModelSeats, error) {
	object := &v1alpha1.ModelSeats{}
	if base.object != nil {
		object.ObjectMeta = *base.object.ObjectMeta.DeepCopy()
	}
	next.Encode(object)
	err := b.request(calls, func(ctx context.Context) error {
		if base.object == nil {
			return b.options.Client.Create(ctx, object)
		}
		return b.options.Client.Update(ctx, object)
	})
	switch {
	case err == nil:
		return withoutSpec(object), nil
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err) && base.object != nil:
		return nil, fmt.Errorf("%w: %w", errMoved, err)
	default:
		return nil, fmt.Errorf("write seat ledger %s: %w", object.Name, err)
	}
}

// Drop deletes the ledger of a licence where nobody holds a seat, and reports whether there is none any more. What was
// used goes with it: do it only once the licence is gone.
func (b *Book) Drop(ctx context.Context, license string) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.options.RequestTimeout)
	defer cancel()
	object := &v1alpha1.ModelSeats{}
	if err := b.options.Reader.Get(ctx, client.ObjectKey{Name: license}, object); err != nil {
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, fmt.Errorf("read seat ledger %s: %w", license, err)
	}
	if len(object.Spec.Holders) > 0 {
		return false, nil
	}
	b.memory.forget(license)
	err = b.options.Client.Delete(ctx, object, client.Preconditions{
		UID: ptr.To(object.UID), ResourceVersion: ptr.To(object.ResourceVersion),
	}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return true, nil
	case apierrors.IsConflict(err):
		return false, nil
	default:
		return false, fmt.Errorf("delete seat ledger %s: %w", license, err)
	}
}

// request asks the API server for no longer than RequestTimeout, and than the most patient of the callers waits.
func (b *Book) request(calls []*call, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), b.options.RequestTimeout)
	defer cancel()
	if latest, bounded := patience(calls); bounded {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, latest)
		defer stop()
	}
	return do(ctx)
}

// patience is until when the last of the callers waits; false where one of them waits for ever.
func patience(calls []*call) (time.Time, bool) {
	var latest time.Time
	for _, c := range calls {
		deadline, ok := c.ctx.Deadline()
		if !ok {
			return time.Time{}, false
		}
		if deadline.After(latest) {
			latest = deadline
		}
	}
	return latest, true
}

// refuses reports whether an error says that trying again would not help.
func refuses(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) ||
		apierrors.IsUnauthorized(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err) ||
		apierrors.IsRequestEntityTooLargeError(err) || meta.IsNoMatchError(err)
}

func answer(calls []*call, results [][]seats.Result) {
	for i, c := range calls {
		c.done <- outcome{results: results[i]}
	}
}

func fail(calls []*call, err error) {
	if !errors.Is(err, ErrUndecodable) {
		err = fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	for _, c := range calls {
		c.done <- outcome{err: err}
	}
}

// sleep pauses, and returns false once nobody waits.
func sleep(calls []*call, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	<-timer.C
	return len(waiting(calls)) > 0
}
