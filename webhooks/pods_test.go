package webhooks

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// reasonOf is the code of the first cause of a denial, and empty for an allowed request.
func reasonOf(t *testing.T, r admission.Response) v1alpha1.Reason {
	t.Helper()
	if r.Allowed {
		return ""
	}
	if r.Result == nil || r.Result.Details == nil || len(r.Result.Details.Causes) == 0 {
		t.Fatalf("denied without causes: %+v", r.Result)
	}
	return v1alpha1.Reason(r.Result.Details.Causes[0].Type)
}

func TestValidateCreate(t *testing.T) {
	entitled := []any{chat().Obj(), code().Obj(), grantOf("acme-chat")}
	tests := map[string]struct {
		rights *fakeRights
		pod    *builders.PodBuilder
		want   v1alpha1.Reason // empty: allowed
		reads  int
	}{
		"plain":               {knows(t, entitled...), server().Container("main", "busybox"), "", 0},
		"entitled":            {knows(t, entitled...), server().Container("main", chatImage).KeyVolume("acme-chat", "main"), "", 0},
		"entitled, no key":    {knows(t, entitled...), server().Container("main", chatImage), "", 0},
		"unlicensed":          {knows(t, entitled...), server().Container("main", "registry.example.com/governed/x"), v1alpha1.ReasonUnlicensed, 1},
		"no grant":            {knows(t, entitled...), server().Container("main", codeImage), v1alpha1.ReasonNoGrant, 1},
		"init container":      {knows(t, entitled...), server().InitContainer("i", codeImage).Container("main", "busybox"), v1alpha1.ReasonNoGrant, 1},
		"image volume":        {knows(t, entitled...), server().Container("main", "busybox").ImageVolume("w", codeImage), v1alpha1.ReasonNoGrant, 1},
		"image's ID":          {knows(t, entitled...), server().Container("main", "sha256:0123"), v1alpha1.ReasonImageID, 1},
		"unparsable":          {knows(t, entitled...), server().Container("main", "Not/An Image"), v1alpha1.ReasonUnparsableImage, 1},
		"key volume alone":    {knows(t, entitled...), server().Container("main", "busybox").KeyVolume("acme-chat", "main"), v1alpha1.ReasonModelNotReferenced, 1},
		"nothing is governed": {&fakeRights{cached: snapshot(t)}, server().Container("main", chatImage), "", 0},
		"granted a moment ago": {
			&fakeRights{cached: snapshot(t, chat().Obj()), live: snapshot(t, chat().Obj(), grantOf("acme-chat"))},
			server().Container("main", chatImage), "", 1,
		},
		"the namespace was labelled a moment ago": {
			func() *fakeRights {
				r := knows(t, chat().NamespaceSelector(map[string]string{"team": "ml"}).Obj(), grantOf("acme-chat"))
				r.liveLabels = map[string]string{"team": "ml"}
				return r
			}(),
			server().Container("main", chatImage), "", 1,
		},
		"live read fails": {
			&fakeRights{cached: snapshot(t, chat().Obj()), liveErr: errUnreachable}, server().Container("main", chatImage), v1alpha1.ReasonLookupFailed, 1,
		},
		"live read of labels fails": {
			&fakeRights{cached: snapshot(t, chat().Obj()), live: snapshot(t, chat().Obj(), grantOf("acme-chat")), liveLabelsErr: errUnreachable},
			server().Container("main", chatImage), v1alpha1.ReasonLookupFailed, 1,
		},
		"live read fails, entitled": {
			&fakeRights{cached: snapshot(t, entitled...), liveErr: errUnreachable}, server().Container("main", chatImage), "", 0,
		},
		"live read fails, plain": {
			&fakeRights{cached: snapshot(t, entitled...), liveErr: errUnreachable}, server().Container("main", "busybox"), "", 0,
		},
		"live read fails, key volume alone": {
			&fakeRights{cached: snapshot(t, entitled...), liveErr: errUnreachable},
			server().Container("main", "busybox").KeyVolume("acme-chat", "main"), v1alpha1.ReasonLookupFailed, 1,
		},
		"namespace unknown, plain": {
			&fakeRights{cached: snapshot(t, entitled...), cachedLabelsErr: errUnreachable, liveErr: errUnreachable},
			server().Container("main", "busybox"), "", 0,
		},
		"namespace unknown, entitled": {
			&fakeRights{cached: snapshot(t, entitled...), cachedLabelsErr: errUnreachable, live: snapshot(t, entitled...)},
			server().Container("main", chatImage), "", 1,
		},
		"namespace unknown, live read fails": {
			// Without the labels, a selector that excludes namespaces by label would match.
			&fakeRights{cached: snapshot(t, entitled...), cachedLabelsErr: errUnreachable, liveErr: errUnreachable},
			server().Container("main", chatImage), v1alpha1.ReasonLookupFailed, 1,
		},
		"not synced, entitled by live read": {
			&fakeRights{unsynced: true, live: snapshot(t, entitled...)}, server().Container("main", chatImage), "", 1,
		},
		"not synced, plain by live read": {
			&fakeRights{unsynced: true, live: snapshot(t, entitled...)}, server().Container("main", "busybox"), "", 1,
		},
		"not synced, refused by live read": {
			&fakeRights{unsynced: true, live: snapshot(t, entitled...)}, server().Container("main", codeImage), v1alpha1.ReasonNoGrant, 1,
		},
		"not synced, live read fails": {
			&fakeRights{unsynced: true, liveErr: errUnreachable}, server().Container("main", chatImage), v1alpha1.ReasonLookupFailed, 1,
		},
		"not synced, live read fails, plain as far as one knows": {
			&fakeRights{unsynced: true, liveErr: errUnreachable}, server().Container("main", "busybox"), v1alpha1.ReasonLookupFailed, 1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, test.rights)
			response := h.validate.Handle(context.Background(), create(t, test.pod.Gate()))
			if got := reasonOf(t, response); got != test.want {
				t.Errorf("%q (%+v), want %q", got, response.Result, test.want)
			}
			if h.rights.liveReads != test.reads {
				t.Errorf("%d live reads, want %d", h.rights.liveReads, test.reads)
			}
			if test.reads > 0 && h.rights.liveNamespace != "ml-prod" {
				t.Errorf("live read of namespace %q", h.rights.liveNamespace)
			}
			if len(response.Warnings) > 0 {
				t.Errorf("warnings: %v", response.Warnings)
			}
			denials := 0
			if test.want != "" {
				denials = 1
			}
			if len(*h.denials) != denials {
				t.Errorf("denials told: %+v", *h.denials)
			}
		})
	}
}

func TestMutateCreate(t *testing.T) {
	entitled := []any{chat().Obj(), code().Obj(), grantOf("acme-chat")}
	tests := map[string]struct {
		rights  *fakeRights
		pod     *builders.PodBuilder
		want    v1alpha1.Reason
		patched bool
	}{
		"plain":    {knows(t, entitled...), server().Container("main", "busybox"), "", false},
		"entitled": {knows(t, entitled...), server().Container("main", chatImage), "", true},
		"entitled, again": {
			knows(t, entitled...),
			server().Container("main", chatImage).KeyVolume("acme-chat", "main").Env("main", "MODELRIGHTS_KEY_FILE", "x").Gate(), "", false,
		},
		"refused gets the gate alone": {knows(t, entitled...), server().Container("main", codeImage), "", true},
		"unparsable passes unchanged": {knows(t, entitled...), server().Container("main", "A B"), "", false},
		"granted a moment ago": {
			&fakeRights{cached: snapshot(t, chat().Obj()), live: snapshot(t, chat().Obj(), grantOf("acme-chat"))},
			server().Container("main", chatImage), "", true,
		},
		"live read fails": {
			&fakeRights{cached: snapshot(t, chat().Obj()), liveErr: errUnreachable}, server().Container("main", chatImage), v1alpha1.ReasonLookupFailed, false,
		},
		"live read fails, plain": {
			&fakeRights{cached: snapshot(t, chat().Obj()), liveErr: errUnreachable}, server().Container("main", "busybox"), "", false,
		},
		"not synced": {
			&fakeRights{unsynced: true, live: snapshot(t, entitled...)}, server().Container("main", chatImage), "", true,
		},
		"not synced, live read fails": {
			&fakeRights{unsynced: true, liveErr: errUnreachable}, server().Container("main", "busybox"), v1alpha1.ReasonLookupFailed, false,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, test.rights)
			response := h.mutate.Handle(context.Background(), create(t, test.pod))
			if got := reasonOf(t, response); got != test.want {
				t.Errorf("%q (%+v), want %q", got, response.Result, test.want)
			}
			if got := len(response.Patch) > 0; got != test.patched {
				t.Errorf("patch %s, want one: %t", response.Patch, test.patched)
			}
		})
	}
}

func TestValidateUpdate(t *testing.T) {
	holder := func() *builders.PodBuilder {
		return server().Container("main", chatImage).KeyVolume("acme-chat", "main").Finalizer("example.com/hold")
	}
	unreachable := func() *fakeRights { return &fakeRights{unsynced: true, liveErr: errUnreachable} }
	tests := map[string]struct {
		rights       *fakeRights
		subresource  string
		old, updated *builders.PodBuilder
		want         v1alpha1.Reason
	}{
		"finalizer removed after revocation":   {knows(t, chat().Obj()), "", holder(), server().Container("main", chatImage).KeyVolume("acme-chat", "main"), ""},
		"annotation after revocation":          {knows(t, chat().Obj()), "", holder(), holder().Annotation("a", "b"), ""},
		"label while nothing can be read":      {unreachable(), "", holder(), holder().Label("a", "b"), ""},
		"resize while nothing can be read":     {unreachable(), "resize", holder(), holder(), ""},
		"status while nothing can be read":     {unreachable(), "status", holder(), holder(), ""},
		"shell":                                {knows(t, chat().Obj(), grantOf("acme-chat")), "", holder(), holder().Image("main", "busybox"), v1alpha1.ReasonImageSwapped},
		"shell by a subresource of the future": {knows(t, chat().Obj(), grantOf("acme-chat")), "future", holder(), holder().Image("main", "busybox"), v1alpha1.ReasonImageSwapped},
		"next version":                         {knows(t, chat().Obj(), grantOf("acme-chat")), "", holder(), holder().Image("main", "registry.example.com/models/chat:3"), ""},
		"image while nothing can be read":      {unreachable(), "", holder(), holder().Image("main", "registry.example.com/models/chat:3"), v1alpha1.ReasonLookupFailed},
		"ephemeral": {
			knows(t, chat().Obj(), code().Obj(), grantOf("acme-chat")), "ephemeralcontainers", holder(), holder().EphemeralContainer("debug", codeImage), v1alpha1.ReasonNoGrant,
		},
		"ephemeral, plain": {
			knows(t, chat().Obj()), "ephemeralcontainers", holder(), holder().EphemeralContainer("debug", "busybox"), "",
		},
		"ephemeral, mounting the key": {
			knows(t, chat().Obj(), grantOf("acme-chat")), "ephemeralcontainers", holder(),
			holder().EphemeralContainer("debug", "busybox").Mount("modelrights-acme-chat", "/k", "debug"), v1alpha1.ReasonKeyVolumeInvalid,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, test.rights)
			response := h.validate.Handle(context.Background(), update(t, test.subresource, test.old, test.updated))
			if got := reasonOf(t, response); got != test.want {
				t.Errorf("%q (%+v), want %q", got, response.Result, test.want)
			}
			if test.want == "" && h.rights.liveReads > 0 {
				t.Errorf("an update that is allowed waited for %d live reads", h.rights.liveReads)
			}
			if mutated := h.mutate.Handle(context.Background(), update(t, test.subresource, test.old, test.updated)); !mutated.Allowed || len(mutated.Patch) > 0 {
				t.Errorf("an update was mutated: %s", mutated.Patch)
			}
		})
	}
}

func TestOtherRequests(t *testing.T) {
	h := newHooks(t, &fakeRights{unsynced: true, liveErr: errUnreachable})
	for _, operation := range []admissionv1.Operation{admissionv1.Delete, admissionv1.Connect} {
		req := create(t, server().Container("main", chatImage))
		req.Operation, req.Object = operation, runtime.RawExtension{}
		if r := h.validate.Handle(context.Background(), req); !r.Allowed {
			t.Errorf("%s: %+v", operation, r.Result)
		}
	}

	good := raw(t, server().Container("main", chatImage).Obj())
	unreadable := map[string]admissionv1.AdmissionRequest{
		"no object":          {Operation: admissionv1.Create},
		"no JSON":            {Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: []byte("{")}},
		"another kind":       {Operation: admissionv1.Create, SubResource: "eviction", Object: runtime.RawExtension{Raw: []byte(`{"apiVersion":"policy/v1","kind":"Eviction"}`)}},
		"a known other kind": {Operation: admissionv1.Create, SubResource: "binding", Object: runtime.RawExtension{Raw: []byte(`{"apiVersion":"v1","kind":"Binding"}`)}},
		"wrong types":        {Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: []byte(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":7}}`)}},
		"no old object":      {Operation: admissionv1.Update, Object: good},
		"no new object":      {Operation: admissionv1.Update, OldObject: good},
	}
	for name, req := range unreadable {
		r := h.validate.Handle(context.Background(), admission.Request{AdmissionRequest: req})
		if r.Allowed || r.Result.Code != http.StatusBadRequest || !strings.HasPrefix(r.Result.Message, "modelrights: ") {
			t.Errorf("%s: allowed %t, %+v", name, r.Allowed, r.Result)
		}
	}
}

// TestPanicDenies: whatever goes wrong in here, the pod stays out and the operator stays up.
func TestPanicDenies(t *testing.T) {
	h := newHooks(t, &fakeRights{panics: true})
	for name, hook := range map[string]*admission.Webhook{"mutate": h.mutate, "validate": h.validate} {
		r := hook.Handle(context.Background(), create(t, server().Container("main", chatImage)))
		if r.Allowed || r.Result.Code != http.StatusInternalServerError || r.UID != "request" {
			t.Errorf("%s: allowed %t, %+v", name, r.Allowed, r.Result)
		}
	}
	hostile := newHooks(t, knows(t, chat().Obj(), grantOf("acme-chat")))
	for _, object := range []string{
		`{"apiVersion":"v1","kind":"Pod","spec":null}`,
		`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[null],"initContainers":[null],"ephemeralContainers":[null],"volumes":[null]}}`,
		`{"apiVersion":"v1","kind":"Pod","metadata":{"ownerReferences":[{}]},"spec":{"volumes":[{"csi":{}},{"image":{}},{"csi":{"driver":"node.modelrights.dev"}}]}}`,
		`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"image":"` + strings.Repeat("%s\\u0000é", 20_000) + `"}]}}`,
		`{"apiVersion":"v1","kind":"Pod","spec":{"serviceAccountName":"llm","containers":[{"name":"` + strings.Repeat("n", 100_000) + `","image":"registry.example.com/models/chat"},{"image":"sha256:0"}]}}`,
	} {
		for _, hook := range []*admission.Webhook{hostile.mutate, hostile.validate} {
			req := create(t, server())
			req.Object.Raw = []byte(object)
			r := hook.Handle(context.Background(), req)
			if !r.Allowed && r.Result.Code == http.StatusInternalServerError {
				t.Errorf("%.120s: %s", object, r.Result.Message)
			}
			if len(r.Result.Message) > maxMessage {
				t.Errorf("%.120s: a message of %d bytes", object, len(r.Result.Message))
			}
		}
	}
}

func TestDryRunIsNotTold(t *testing.T) {
	h := newHooks(t, knows(t, chat().Obj()))
	req := create(t, server().Container("main", chatImage))
	req.DryRun = ptr.To(true)
	if r := h.validate.Handle(context.Background(), req); r.Allowed {
		t.Error("allowed on dry run")
	}
	if len(*h.denials) != 0 {
		t.Errorf("told of a dry run: %+v", *h.denials)
	}
}

func TestMetrics(t *testing.T) {
	h := newHooks(t, knows(t, chat().Obj(), code().Obj(), grantOf("acme-chat")))
	ctx := context.Background()
	h.validate.Handle(ctx, create(t, server().Container("main", "busybox")))
	h.validate.Handle(ctx, create(t, server().Container("main", chatImage).Gate()))
	h.validate.Handle(ctx, create(t, server().Container("main", codeImage)))
	h.validate.Handle(ctx, update(t, "", server(), server().Label("a", "b")))
	h.mutate.Handle(ctx, create(t, server().Container("main", chatImage)))
	want := []string{
		"CREATE Entitled allowed mutate-pods 1",
		"CREATE Entitled allowed validate-pods 1",
		"CREATE NoGrant denied validate-pods 1",
		"CREATE NotGoverned allowed validate-pods 1",
		"UPDATE Unchanged allowed validate-pods 1",
	}
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var reads uint64
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "modelrights_admission_live_read_seconds" {
				reads += m.GetHistogram().GetSampleCount()
				continue
			}
			var values []string
			for _, label := range m.GetLabel() {
				values = append(values, label.GetValue())
			}
			got = append(got, fmt.Sprintf("%s %v", strings.Join(values, " "), m.GetCounter().GetValue()))
		}
	}
	if !slices.Equal(got, want) || reads != 1 {
		t.Errorf("counted %v and %d live reads, want %v and 1", got, reads, want)
	}
}

type paths map[string]http.Handler

func (p paths) Register(path string, hook http.Handler) { p[path] = hook }

func TestRegister(t *testing.T) {
	served, registry, secret := paths{}, prometheus.NewRegistry(), strings.Repeat("5", minSecret)
	options := Options{PathSecret: secret, Rights: knows(t), OperatorUser: operatorUser, Denials: &recordedDenials{}, Metrics: registry}
	if err := Register(served, options); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"/mutate-pods/", "/validate-pods/"} {
		for path, want := range map[string]int{
			prefix + secret:                     http.StatusOK,
			prefix:                              http.StatusNotFound,
			prefix + secret[1:]:                 http.StatusNotFound,
			prefix + secret + "5":               http.StatusNotFound,
			prefix + "../validate-pods/guessed": http.StatusNotFound,
		} {
			answer := httptest.NewRecorder()
			served[prefix].ServeHTTP(answer, httptest.NewRequest(http.MethodPost, path, strings.NewReader("{}")))
			if answer.Code != want {
				t.Errorf("POST %s: %d, want %d", path, answer.Code, want)
			}
		}
	}
	if err := Register(paths{}, options); err == nil {
		t.Error("metrics were registered twice")
	}
	for name, incomplete := range map[string]Options{
		"without Rights and Denials": {PathSecret: secret},
		"without a secret path":      {Rights: options.Rights, OperatorUser: operatorUser, Denials: options.Denials},
		"without the operator":       {PathSecret: secret, Rights: options.Rights, Denials: options.Denials},
	} {
		if err := Register(paths{}, incomplete); err == nil {
			t.Error("registered " + name)
		}
	}
}

func TestDenialIsTold(t *testing.T) {
	h := newHooks(t, knows(t, chat().Obj()))
	pod := builders.Pod("ml-prod", "").GenerateName("server-").Container("main", chatImage).Container("other", chatImage).
		Owner("apps/v1", "ReplicaSet", "server", "uid-1")
	r := h.validate.Handle(context.Background(), create(t, pod))
	if len(*h.denials) != 1 {
		t.Fatalf("told %+v", *h.denials)
	}
	d := (*h.denials)[0]
	want := Denial{
		Time: now, Namespace: "ml-prod", GenerateName: "server-", ServiceAccount: "default",
		User: "system:serviceaccount:kube-system:replicaset-controller", Operation: "CREATE", Message: r.Result.Message,
	}
	owner, uses := d.Owner, d.Uses
	d.Owner, d.Uses = nil, nil
	if d.Message == "" || d.Time != want.Time || d.Namespace != want.Namespace || d.GenerateName != want.GenerateName || d.PodName != "" ||
		d.PodUID != "" || d.ServiceAccount != want.ServiceAccount || d.User != want.User || d.Operation != want.Operation || d.Message != want.Message {
		t.Errorf("told %+v, want %+v", d, want)
	}
	if owner == nil || owner.Kind != "ReplicaSet" || owner.Name != "server" || owner.UID != "uid-1" || owner.APIVersion != "apps/v1" {
		t.Errorf("owner %+v", owner)
	}
	if len(uses) != 1 || uses[0].Image != chatImage || uses[0].Reason != v1alpha1.ReasonNoGrant || uses[0].LicenseName != "acme-chat" || uses[0].License == nil {
		t.Errorf("uses %+v", uses)
	}
	if r.Result.Reason != metav1.StatusReasonForbidden || r.Result.Code != http.StatusForbidden || r.Result.Status != metav1.StatusFailure {
		t.Errorf("status %+v", r.Result)
	}
}
