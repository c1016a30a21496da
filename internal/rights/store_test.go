package rights

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
)

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// world is an API server with a licence, a grant of it and one of a licence that does not exist.
func world(t *testing.T, funcs interceptor.Funcs) client.WithWatch {
	t.Helper()
	return fake.NewClientBuilder().WithScheme(scheme(t)).WithInterceptorFuncs(funcs).WithObjects(
		builders.License("chat").Repository("registry.example.com/models/chat").Key("v1").Obj(),
		builders.Grant("ml", "chat", "chat").ServiceAccount("llm").Obj(),
		builders.Grant("ml", "lost", "lost").ServiceAccount("llm").Obj(),
		builders.Namespace("ml").Label("team", "vision").Obj(),
	).Build()
}

func newStore(t *testing.T, api client.Reader) *Store {
	t.Helper()
	s, err := NewStore([]string{"registry.example.com/models/**"}, api, api)
	if err != nil {
		t.Fatal(err)
	}
	s.synced.Store(true)
	return s
}

func decide(s *entitlement.Snapshot) v1alpha1.Reason {
	return entitlement.Decide(entitlement.Request{
		Image: "registry.example.com/models/chat:2.1", Namespace: "ml", ServiceAccount: "llm",
	}, s, time.Now()).Reason
}

func TestLiveFindsWhatTheCacheLacks(t *testing.T) {
	s := newStore(t, world(t, interceptor.Funcs{}))
	stale, _ := s.Snapshot()
	if got := decide(stale); got != v1alpha1.ReasonUnlicensed {
		t.Fatalf("before anything was observed: %s, want Unlicensed", got)
	}
	live, err := s.Live(t.Context(), "ml")
	if err != nil {
		t.Fatal(err)
	}
	if got := decide(live); got != v1alpha1.ReasonEntitled {
		t.Errorf("live: %s, want Entitled", got)
	}
	again, _ := s.Snapshot()
	if got := decide(again); got != v1alpha1.ReasonUnlicensed {
		t.Errorf("a live read must not change what the informers told: %s, want Unlicensed", got)
	}
}

func TestLiveForgetsWhatIsGone(t *testing.T) {
	api := world(t, interceptor.Funcs{})
	s := newStore(t, api)
	license, grant := &v1alpha1.ModelLicense{}, &v1alpha1.ModelGrant{}
	for key, object := range map[client.ObjectKey]client.Object{{Name: "chat"}: license, {Namespace: "ml", Name: "chat"}: grant} {
		if err := api.Get(t.Context(), key, object); err != nil {
			t.Fatal(err)
		}
		s.observe(object, false)
	}
	if known, _ := s.Snapshot(); decide(known) != v1alpha1.ReasonEntitled {
		t.Fatalf("observed: %s, want Entitled", decide(known))
	}
	if err := api.Delete(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
	live, err := s.Live(t.Context(), "ml")
	if err != nil {
		t.Fatal(err)
	}
	if got := decide(live); got != v1alpha1.ReasonNoGrant {
		t.Errorf("live, after the grant went: %s, want NoGrant", got)
	}
	s.observe(toolscache.DeletedFinalStateUnknown{Obj: license}, true)
	if known, _ := s.Snapshot(); decide(known) != v1alpha1.ReasonUnlicensed {
		t.Errorf("after the licence's tombstone: %s, want Unlicensed", decide(known))
	}
}

func TestLiveFails(t *testing.T) {
	broken := errors.New("no etcd")
	tests := map[string]struct {
		funcs    interceptor.Funcs
		unsynced bool
	}{
		"not synced": {unsynced: true},
		"grants cannot be listed": {funcs: interceptor.Funcs{
			List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return broken },
		}},
		"a licence cannot be read": {funcs: interceptor.Funcs{
			Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
				return broken
			},
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, world(t, tc.funcs))
			s.synced.Store(!tc.unsynced)
			if snapshot, err := s.Live(t.Context(), "ml"); err == nil {
				t.Errorf("Live = %v, want an error: nothing may be concluded", snapshot)
			}
		})
	}
}

// A call that comes while a read is under way must not share it: the read may have passed by what was written just
// before the call.
func TestLiveNeverJoinsAReadThatHasBegun(t *testing.T) {
	begun, goOn := make(chan struct{}, 2), make(chan struct{})
	var mu sync.Mutex
	lists := 0
	api := world(t, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			err := c.List(ctx, list, opts...)
			mu.Lock()
			lists++
			first := lists == 1
			mu.Unlock()
			begun <- struct{}{}
			if first {
				<-goOn // the first read has its answer, and is slow to return
			}
			return err
		},
	})
	s := newStore(t, api)
	first := make(chan error, 1)
	go func() {
		_, err := s.Live(t.Context(), "ml-late")
		first <- err
	}()
	<-begun
	late := builders.Grant("ml-late", "chat", "chat").ServiceAccount("llm").Obj()
	if err := api.Create(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	live, err := s.Live(t.Context(), "ml-late")
	close(goOn)
	if err != nil {
		t.Fatal(err)
	}
	if got := live.GrantsIn("ml-late"); len(got) != 1 {
		t.Errorf("the second call sees %d grants, want the one that was written before it", len(got))
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestLiveReadsPageByPage(t *testing.T) {
	pages := 0
	api := world(t, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			grants, ok := list.(*v1alpha1.ModelGrantList)
			if !ok {
				return c.List(ctx, list, opts...)
			}
			var o client.ListOptions
			o.ApplyOptions(opts)
			pages++
			if o.Continue == "" {
				grants.Continue = "next"
				grants.Items = []v1alpha1.ModelGrant{*builders.Grant("ml", "a", "chat").ServiceAccount("other").Obj()}
				return nil
			}
			grants.Items = []v1alpha1.ModelGrant{*builders.Grant("ml", "b", "chat").ServiceAccount("llm").Obj()}
			return nil
		},
	})
	live, err := newStore(t, api).Live(t.Context(), "ml")
	if err != nil {
		t.Fatal(err)
	}
	if got := decide(live); got != v1alpha1.ReasonEntitled || pages != 2 {
		t.Errorf("%s after %d pages, want Entitled by the grant on the second", got, pages)
	}
}

func TestSubscribersSeeTheSnapshotWithTheChange(t *testing.T) {
	s := newStore(t, world(t, interceptor.Funcs{}))
	var seen []string
	s.Subscribe(func(o client.Object) {
		snapshot, _ := s.Snapshot()
		if snapshot.License("new") == nil {
			t.Error("told of a licence that the snapshot does not know")
		}
		seen = append(seen, o.GetName())
	})
	license := builders.License("new").Repository("registry.example.com/models/new").Obj()
	s.observe(license, false)
	labelled := license.DeepCopy()
	labelled.Labels = map[string]string{"team": "vision"}
	s.update(license, labelled)
	if len(seen) != 1 || seen[0] != "new" {
		t.Errorf("told of %v, want new once: its labels are nothing to look again for", seen)
	}
}

// Digests are decided by what the operator has resolved, which stands in the status.
func TestStatusImagesCount(t *testing.T) {
	resolved := func(platforms ...string) []v1alpha1.ResolvedImage {
		return []v1alpha1.ResolvedImage{{Repository: "registry.example.com/models/chat", Tag: "2.1", Digest: "sha256:" + strings.Repeat("0", 64), Platforms: platforms}}
	}
	tests := map[string]struct {
		change func(*v1alpha1.ModelLicense)
		told   bool
	}{
		"nothing":         {func(*v1alpha1.ModelLicense) {}, false},
		"a condition":     {func(l *v1alpha1.ModelLicense) { l.Status.Grants = ptr.To[int32](3) }, false},
		"an image":        {func(l *v1alpha1.ModelLicense) { l.Status.Images = append(resolved(), l.Status.Images...) }, true},
		"no image":        {func(l *v1alpha1.ModelLicense) { l.Status.Images = nil }, true},
		"another digest":  {func(l *v1alpha1.ModelLicense) { l.Status.Images[0].Digest = "sha256:" + strings.Repeat("1", 64) }, true},
		"another tag":     {func(l *v1alpha1.ModelLicense) { l.Status.Images[0].Tag = "2.2" }, true},
		"another place":   {func(l *v1alpha1.ModelLicense) { l.Status.Images[0].Repository += "/x" }, true},
		"other platforms": {func(l *v1alpha1.ModelLicense) { l.Status.Images = resolved("sha256:b") }, true},
		"a generation":    {func(l *v1alpha1.ModelLicense) { l.Generation++ }, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := builders.License("chat").Repository("registry.example.com/models/chat").Obj()
			before.Status.Images = resolved("sha256:a")
			after := before.DeepCopy()
			test.change(after)

			s := newStore(t, world(t, interceptor.Funcs{}))
			s.observe(before, false)
			told := 0
			s.Subscribe(func(client.Object) { told++ })
			s.update(before, after)
			known, _ := s.Snapshot()
			if seen := known.License("chat") == after; seen != test.told || told > 1 || (told == 1) != test.told {
				t.Errorf("the snapshot took it: %t, subscribers were told %d times; want %t", seen, told, test.told)
			}
			live := &found{licenses: map[string]*v1alpha1.ModelLicense{"chat": after}}
			old := newStore(t, world(t, interceptor.Funcs{}))
			old.observe(before, false)
			stale, _ := old.Snapshot()
			if _, taken := live.changesTo(stale, "ml").Licenses["chat"]; taken != test.told {
				t.Errorf("a live read took it: %t, want %t", taken, test.told)
			}
		})
	}
}

func TestNamespaceLabels(t *testing.T) {
	api := world(t, interceptor.Funcs{})
	empty := fake.NewClientBuilder().WithScheme(scheme(t)).Build()
	s, err := NewStore(nil, empty, api)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.NamespaceLabels(t.Context(), "ml", false); err == nil {
		t.Error("a namespace that the cache lacks must be an error there")
	}
	labels, err := s.NamespaceLabels(t.Context(), "ml", true)
	if err != nil || labels["team"] != "vision" {
		t.Errorf("live labels = %v, %v; want team=vision", labels, err)
	}
}

func TestNewStoreNamesAWrongPattern(t *testing.T) {
	if _, err := NewStore([]string{"registry.example.com/mod*"}, nil, nil); err == nil {
		t.Error("a wildcard within a component must be refused")
	}
}
