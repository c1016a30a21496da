package controllers

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

// recordingLog keeps entries, or refuses them.
type recordingLog struct {
	entries []audit.Entry
	err     error
}

func (l *recordingLog) Append(_ context.Context, e audit.Entry) (int64, error) {
	if l.err != nil {
		return 0, l.err
	}
	l.entries = append(l.entries, e)
	return int64(len(l.entries)) - 1, nil
}

func (l *recordingLog) types() []audit.Type {
	var types []audit.Type
	for _, e := range l.entries {
		types = append(types, e.Type)
	}
	return types
}

func license(uid string, generation int64) *v1alpha1.ModelLicense {
	return &v1alpha1.ModelLicense{ObjectMeta: metav1.ObjectMeta{Name: "acme", UID: types.UID(uid), Generation: generation}}
}

func described(t *testing.T, l *v1alpha1.ModelLicense) incarnation {
	t.Helper()
	i, err := licenseIncarnation(l)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// After a grant is gone, its entries still say whom it named, and prove what it said.
func TestEntriesSayWhatWasGranted(t *testing.T) {
	grant := &v1alpha1.ModelGrant{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "chat", UID: "g", Generation: 2}}
	grant.Spec = v1alpha1.ModelGrantSpec{
		LicenseName: "acme", Action: v1alpha1.ActionInference, Purpose: v1alpha1.PurposeInternal,
		Subjects: []v1alpha1.GrantSubject{{Kind: v1alpha1.SubjectServiceAccount, Name: "llm"}},
	}
	before, err := grantIncarnation(grant)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []change{created, changed, deleted} {
		e := grantEntry(before, c)
		if e.License.Name != "acme" || e.Grant.UID != "g" || e.Grant.Generation != 2 || e.Namespace != "ml" ||
			!strings.Contains(e.Message, "to service accounts llm; spec sha256:") {
			t.Errorf("entry %+v does not say what was granted", e)
		}
	}
	grant.Spec.Subjects[0].Name = "other"
	after, err := grantIncarnation(grant)
	if err != nil || before.detail.Value() == after.detail.Value() {
		t.Errorf("%q, %v: another spec must have another hash than %q", after.detail.Value(), err, before.detail.Value())
	}
}

func TestHistory(t *testing.T) {
	type step struct {
		object   *v1alpha1.ModelLicense // nil: gone
		observed int64                  // what its status says in the cache
	}
	tests := map[string]struct {
		steps []step
		want  []audit.Type
	}{
		"created once, whatever the status says": {
			steps: []step{{license("a", 1), 0}, {license("a", 1), 0}, {license("a", 1), 1}},
			want:  []audit.Type{audit.LicenseCreated},
		},
		"nothing to say after a restart": {
			steps: []step{{license("a", 3), 3}},
		},
		"changed while the operator was away": {
			steps: []step{{license("a", 3), 2}},
			want:  []audit.Type{audit.LicenseChanged},
		},
		"deleted after it was seen": {
			steps: []step{{license("a", 1), 1}, {nil, 0}, {nil, 0}},
			want:  []audit.Type{audit.LicenseDeleted},
		},
		"replaced by another of the same name": {
			steps: []step{{license("a", 1), 1}, {license("b", 1), 0}},
			want:  []audit.Type{audit.LicenseDeleted, audit.LicenseCreated},
		},
		"gone before it was seen": {
			steps: []step{{nil, 0}},
		},
		"deleted before its status was written": {
			steps: []step{{license("a", 1), 0}, {nil, 0}},
			want:  []audit.Type{audit.LicenseCreated, audit.LicenseDeleted},
		},
		"changed twice before its status was written": {
			steps: []step{{license("a", 1), 0}, {license("a", 2), 0}, {license("a", 2), 1}, {license("a", 2), 2}},
			want:  []audit.Type{audit.LicenseCreated, audit.LicenseChanged},
		},
		"replaced twice": {
			steps: []step{{license("a", 1), 1}, {license("b", 1), 1}, {license("c", 1), 1}},
			want:  []audit.Type{audit.LicenseDeleted, audit.LicenseDeleted},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var h history
			log := &recordingLog{}
			handler, queue := licenseHandler(&h), newQueue(t)
			var before *v1alpha1.ModelLicense
			for i, s := range tc.steps {
				var err error
				switch {
				case s.object == nil && before != nil:
					handler.Delete(t.Context(), event.DeleteEvent{Object: before}, queue)
					fallthrough
				case s.object == nil:
					before = nil
					err = h.deleted(t.Context(), log, client.ObjectKey{Name: "acme"}, licenseEntry)
				default:
					s.object.Status.ObservedGeneration = s.observed
					if before != nil {
						handler.Update(t.Context(), event.UpdateEvent{ObjectOld: before, ObjectNew: s.object}, queue)
					}
					before = s.object
					err = h.seen(t.Context(), log, described(t, s.object), s.observed, licenseEntry)
				}
				if err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
			}
			if got := log.types(); !slices.Equal(got, tc.want) {
				t.Errorf("logged %v, want %v", got, tc.want)
			}
			if last := tc.steps[len(tc.steps)-1]; len(h.gone) > 0 || len(h.logged) > 0 && (last.object == nil || last.observed >= last.object.Generation) {
				t.Errorf("remembers %v and %v, though nothing is under way", h.gone, h.logged)
			}
		})
	}
}

// licenseHandler tells a history of what happens to licences, as the controller has it.
func licenseHandler(h *history) handler.EventHandler {
	own := &ownObjects[*v1alpha1.ModelLicense]{
		history: h, describe: licenseIncarnation, observed: func(l *v1alpha1.ModelLicense) int64 { return l.Status.ObservedGeneration },
	}
	return own.handler()
}

func newQueue(t *testing.T) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	t.Helper()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	t.Cleanup(queue.ShutDown)
	return queue
}

// A deletion that cannot be logged is logged later, though another object has the name by then.
func TestHistoryTriesDeletionsAgain(t *testing.T) {
	var h history
	handler := licenseHandler(&h)
	last := license("a", 2)
	last.Status.ObservedGeneration = 2
	handler.Delete(t.Context(), event.DeleteEvent{Object: last}, newQueue(t))
	log := &recordingLog{err: errors.New("no etcd")}
	if err := h.deleted(t.Context(), log, client.ObjectKey{Name: "acme"}, licenseEntry); err == nil {
		t.Fatal("a deletion that could not be logged must be an error, so that it is tried again")
	}
	log.err = nil
	if err := h.seen(t.Context(), log, described(t, license("b", 1)), 0, licenseEntry); err != nil {
		t.Fatal(err)
	}
	if got := log.types(); !slices.Equal(got, []audit.Type{audit.LicenseDeleted, audit.LicenseCreated}) || log.entries[0].License.UID != "a" {
		t.Errorf("logged %v, want the deletion of the first and the creation of the second", got)
	}
}

func TestOwnObjectsQueueWhatIsWritten(t *testing.T) {
	labelled, again := license("a", 1), license("b", 1)
	labelled.Labels = map[string]string{"team": "ml"}
	tests := map[string]struct {
		event func(handler.EventHandler, workqueue.TypedRateLimitingInterface[reconcile.Request])
		want  int
	}{
		"created": {func(h handler.EventHandler, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			h.Create(t.Context(), event.CreateEvent{Object: license("a", 1)}, q)
		}, 1},
		"labelled": {func(h handler.EventHandler, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			h.Update(t.Context(), event.UpdateEvent{ObjectOld: license("a", 1), ObjectNew: labelled}, q)
		}, 0},
		"written": {func(h handler.EventHandler, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			h.Update(t.Context(), event.UpdateEvent{ObjectOld: license("a", 1), ObjectNew: license("a", 2)}, q)
		}, 1},
		"replaced at the same generation": {func(h handler.EventHandler, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			h.Update(t.Context(), event.UpdateEvent{ObjectOld: license("a", 1), ObjectNew: again}, q)
		}, 1},
		"deleted": {func(h handler.EventHandler, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			h.Delete(t.Context(), event.DeleteEvent{Object: license("a", 1)}, q)
		}, 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			queue := newQueue(t)
			tc.event(licenseHandler(&history{}), queue)
			if got := queue.Len(); got != tc.want {
				t.Errorf("%d requests, want %d", got, tc.want)
			}
		})
	}
}

func TestHistoryTriesAgain(t *testing.T) {
	var h history
	log := &recordingLog{err: errors.New("no etcd")}
	if err := h.seen(t.Context(), log, described(t, license("a", 1)), 0, licenseEntry); err == nil {
		t.Fatal("an entry that could not be written must be an error, so that the status waits for it")
	}
	log.err = nil
	if err := h.seen(t.Context(), log, described(t, license("a", 1)), 0, licenseEntry); err != nil {
		t.Fatal(err)
	}
	if got := log.types(); !slices.Equal(got, []audit.Type{audit.LicenseCreated}) {
		t.Errorf("logged %v, want the entry that failed before", got)
	}
}
