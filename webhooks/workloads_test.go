package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/workloads"
	"modelrights.dev/modelrights/test/builders"
)

// workloadHook is the webhook for workloads, as the server would serve it.
func workloadHook(t testing.TB, rights *fakeRights, deny bool) *workloadValidator {
	t.Helper()
	d, err := newDecider(Options{Rights: rights, OperatorUser: operatorUser, Denials: &recordedDenials{}, Clock: clocktesting.NewFakePassiveClock(now)})
	if err != nil {
		t.Fatal(err)
	}
	return newWorkloadValidator(d, WorkloadOptions{Table: workloads.Default(), DenyCustom: deny})
}

// apply is the request to create a workload, given in YAML, or to update it where there is an old one.
func apply(t testing.TB, object, old string) admission.Request {
	t.Helper()
	raw := func(text string) runtime.RawExtension {
		data, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return runtime.RawExtension{Raw: data}
	}
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "request", Operation: admissionv1.Create, Namespace: "ml-prod", Name: "chat", Object: raw(object),
	}}
	if old != "" {
		req.Operation, req.OldObject = admissionv1.Update, raw(old)
	}
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(object), &meta); err != nil {
		t.Fatal(err)
	}
	gvk := meta.GroupVersionKind()
	req.Kind = metav1.GroupVersionKind(gvk)
	req.Resource = metav1.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: strings.ToLower(gvk.Kind) + "s"}
	return req
}

func deployment(account, image string) string {
	return fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: chat}, spec: {template: {metadata: {labels: {app: chat}}, spec: {serviceAccountName: %s, containers: [{name: server, image: %q}]}}}}`, account, image)
}

func inferenceService(account, uri string) string {
	return fmt.Sprintf(`{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, metadata: {name: chat}, spec: {predictor: {serviceAccountName: %s, model: {storageUri: %q}}}}`, account, uri)
}

func TestWorkloads(t *testing.T) {
	const governedImage = "registry.example.com/governed/new:1"
	tests := map[string]struct {
		object, old string
		deny        bool
		namespace   string
		// want is allowed, denied or warned, and parts what the answer says.
		want  string
		parts []string
	}{
		"entitled":                      {object: deployment("llm", chatImage), want: "allowed"},
		"no model at all":               {object: deployment("llm", "nginx"), want: "allowed"},
		"built-in, no grant":            {object: deployment("llm", codeImage), want: "denied", parts: []string{"modelrights: deployment denied [NoGrant]: container \"server\" (spec.template.spec.containers[0].image): image", "modellicenses/acme-code"}},
		"built-in, another account":     {object: deployment("web", chatImage), want: "denied", parts: []string{"[SubjectNotGranted]", "service account web"}},
		"built-in, no account":          {object: deployment(`""`, chatImage), want: "denied", parts: []string{"[SubjectNotGranted]", "service account default"}},
		"built-in, argument":            {object: `{apiVersion: batch/v1, kind: Job, spec: {template: {spec: {containers: [{name: a, image: x, args: ["oci://` + codeImage + `"]}]}}}}`, want: "denied", parts: []string{"modelrights: job denied [NoGrant]: argument of container \"a\" (spec.template.spec.containers[0].args[0])"}},
		"built-in, image volume":        {object: `{apiVersion: apps/v1, kind: StatefulSet, spec: {template: {spec: {containers: [{name: a, image: x}], volumes: [{name: w, image: {reference: "` + codeImage + `"}}]}}}}`, want: "denied", parts: []string{"modelrights: statefulset denied", "image volume \"w\""}},
		"built-in, image ID":            {object: deployment("llm", "sha256:4bf5122f3445"), want: "denied", parts: []string{"[ImageID]"}},
		"built-in, unresolved":          {object: deployment("llm", "registry.example.com/models/code:${VERSION}"), want: "allowed"},
		"built-in, pods of other label": {object: strings.Replace(deployment("selected", chatImage), "app: chat", "app: other", 1), want: "warned", parts: []string{"[PodNotSelected]"}},
		"built-in, by its pods' labels": {object: deployment("selected", chatImage), want: "allowed"},
		"governed":                      {object: deployment("llm", governedImage), want: "denied", parts: []string{"[Unlicensed]"}},
		"several refusals in one": {
			object: `{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {containers: [{name: a, image: "` + codeImage + `"}, {name: b, image: "` + governedImage + `"}]}}}}`,
			want:   "denied", parts: []string{"denied [NoGrant,Unlicensed]", "(2)"},
		},

		"custom, entitled":         {object: inferenceService("llm", "oci://"+chatImage), want: "allowed"},
		"custom, no grant":         {object: inferenceService("llm", "oci://"+codeImage), want: "warned", parts: []string{"modelrights: pods of this InferenceService will be denied [NoGrant]: spec.predictor.model.storageUri: image", "ask someone who may"}},
		"custom, another account":  {object: inferenceService("web", "oci://"+chatImage), want: "warned", parts: []string{"[SubjectNotGranted]"}},
		"custom, denied":           {object: inferenceService("llm", "oci://"+codeImage), deny: true, want: "denied", parts: []string{"modelrights: inferenceservice denied [NoGrant]: spec.predictor.model.storageUri: image"}},
		"custom, unresolved":       {object: inferenceService("llm", "oci://registry.example.com/models/code:{{v}}"), deny: true, want: "allowed"},
		"custom, other namespace":  {object: `{apiVersion: workload.codeflare.dev/v1beta2, kind: AppWrapper, spec: {components: [{template: {apiVersion: v1, kind: Pod, metadata: {namespace: elsewhere}, spec: {containers: [{image: "` + codeImage + `"}]}}}]}}`, want: "allowed"},
		"custom, labels not known": {object: inferenceService("selected", "oci://"+chatImage), deny: true, want: "warned", parts: []string{"[PodNotSelected]"}},
		"another group's job":      {object: `{apiVersion: batch.volcano.sh/v1alpha1, kind: Job, spec: {tasks: [{template: {spec: {containers: [{name: a, image: "` + codeImage + `"}]}}}]}}`, want: "warned", parts: []string{"pods of this Job"}},

		"scaled, unlicensed before":      {object: strings.Replace(deployment("llm", codeImage), "spec: {template", "spec: {replicas: 0, template", 1), old: deployment("llm", codeImage), want: "allowed"},
		"image changed":                  {object: deployment("llm", codeImage), old: deployment("llm", "nginx"), want: "denied", parts: []string{"[NoGrant]"}},
		"account changed":                {object: deployment("web", chatImage), old: deployment("llm", chatImage), want: "denied", parts: []string{"[SubjectNotGranted]"}},
		"image changed while scaled":     {object: strings.Replace(deployment("llm", governedImage), "spec: {template", "spec: {replicas: 0, template", 1), old: deployment("llm", codeImage), want: "denied", parts: []string{"[Unlicensed]"}},
		"container moved, same image":    {object: `{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {serviceAccountName: llm, initContainers: [{name: x, image: nginx}], containers: [{name: new, image: nginx}, {name: server, image: "` + codeImage + `"}]}}}}`, old: deployment("llm", codeImage), want: "allowed"},
		"image removed":                  {object: deployment("llm", "nginx"), old: deployment("llm", codeImage), want: "allowed"},
		"custom, changed":                {object: inferenceService("llm", "oci://"+codeImage), old: inferenceService("llm", "oci://"+chatImage), want: "warned", parts: []string{"[NoGrant]"}},
		"custom, as before":              {object: inferenceService("llm", "oci://"+codeImage), old: inferenceService("llm", "oci://"+codeImage), want: "allowed"},
		"being deleted":                  {object: strings.Replace(deployment("llm", codeImage), "name: chat}", `name: chat, deletionTimestamp: "2026-01-01T00:00:00Z"}`, 1), old: deployment("llm", "nginx"), want: "allowed"},
		"made by a controller":           {object: strings.Replace(deployment("llm", codeImage), "name: chat}", `name: chat, ownerReferences: [{kind: X, name: y, controller: true}]}`, 1), want: "allowed"},
		"owned, but not by a controller": {object: strings.Replace(deployment("llm", codeImage), "name: chat}", `name: chat, ownerReferences: [{kind: X, name: y}]}`, 1), want: "denied"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			rights := knows(t, chat().Obj(), code().Obj(), grantOf("acme-chat"),
				builders.Grant("ml-prod", "selected", "acme-chat").ServiceAccount("selected").PodSelector(map[string]string{"app": "chat"}).Obj())
			got := workloadHook(t, rights, tc.deny).Handle(context.Background(), apply(t, tc.object, tc.old))
			checkAnswer(t, got, tc.want, tc.parts...)
		})
	}
}

func checkAnswer(t *testing.T, got admission.Response, want string, parts ...string) {
	t.Helper()
	answer, text := "allowed", strings.Join(got.Warnings, "\n")
	switch {
	case !got.Allowed:
		answer, text = "denied", got.Result.Message
		if got.Result.Code != http.StatusForbidden || got.Result.Reason != metav1.StatusReasonForbidden {
			t.Errorf("denied with %d %s", got.Result.Code, got.Result.Reason)
		}
		if len(got.Warnings) > 0 {
			t.Errorf("denied with warnings %q", got.Warnings)
		}
	case len(got.Warnings) > 0:
		answer = "warned"
	}
	if answer != want {
		t.Fatalf("%s, want %s: %s", answer, want, text)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("the answer does not say %q:\n%s", part, text)
		}
	}
}

// A workload passes with a warning whenever nothing can be decided: nobody is locked out of deploying by this webhook.
func TestWorkloadsThatCannotBeDecided(t *testing.T) {
	unsynced := knows(t, code().Obj())
	unsynced.unsynced, unsynced.liveErr = true, errUnreachable
	unreachable := knows(t, code().Obj())
	unreachable.liveErr = errUnreachable
	panics := knows(t)
	panics.panics = true
	for name, rights := range map[string]*fakeRights{"nothing is known yet": unsynced, "the live read fails": unreachable, "a panic": panics} {
		for kind, object := range map[string]string{"built-in": deployment("llm", codeImage), "custom": inferenceService("llm", "oci://"+codeImage)} {
			t.Run(name+", "+kind, func(t *testing.T) {
				checkAnswer(t, workloadHook(t, rights, true).Handle(context.Background(), apply(t, object, "")), "warned", "could not be checked now [LookupFailed]")
			})
		}
	}
	for name, change := range map[string]func(*admission.Request){
		"an object that is none":     func(r *admission.Request) { r.Object.Raw = []byte(`[1]`) },
		"an old object that is none": func(r *admission.Request) { r.Operation, r.OldObject.Raw = admissionv1.Update, []byte(`{`) },
		"an object too deep":         func(r *admission.Request) { r.Object.Raw = []byte(strings.Repeat("[", 20_000)) },
	} {
		t.Run(name, func(t *testing.T) {
			req := apply(t, deployment("llm", codeImage), "")
			change(&req)
			checkAnswer(t, workloadHook(t, knows(t, code().Obj()), true).Handle(context.Background(), req), "warned", "LookupFailed")
		})
	}
	for name, change := range map[string]func(*admission.Request){
		"a subresource": func(r *admission.Request) { r.SubResource = "scale" },
		"a deletion":    func(r *admission.Request) { r.Operation = admissionv1.Delete },
	} {
		t.Run(name, func(t *testing.T) {
			req := apply(t, deployment("llm", codeImage), "")
			change(&req)
			checkAnswer(t, workloadHook(t, knows(t, code().Obj()), true).Handle(context.Background(), req), "allowed")
		})
	}
}

// A grant that was written a moment ago counts.
func TestWorkloadsAreDeniedAfterALiveRead(t *testing.T) {
	rights := knows(t, code().Obj())
	rights.live = snapshot(t, code().Obj(), grantOf("acme-code"))
	rights.liveLabels = map[string]string{"team": "ml"}
	checkAnswer(t, workloadHook(t, rights, false).Handle(context.Background(), apply(t, deployment("llm", codeImage), "")), "allowed")
	if rights.liveReads != 1 || rights.liveNamespace != "ml-prod" {
		t.Errorf("%d live reads of %s", rights.liveReads, rights.liveNamespace)
	}
}

// API servers cut warnings off at 256 characters, and at 4,096 in all.
func TestWorkloadWarningsAreBounded(t *testing.T) {
	var containers []string
	for i := range 300 {
		containers = append(containers, fmt.Sprintf(`{"name":"c%d","image":"registry.example.com/models/code:%s%d"}`, i, strings.Repeat("x", 100), i))
	}
	object := `{"apiVersion":"kubeflow.org/v1","kind":"PyTorchJob","spec":{"` + strings.Repeat("é", 500) + `\n":{"containers":[` + strings.Join(containers, ",") + `]}}}`
	got := workloadHook(t, knows(t, code().Obj()), false).Handle(context.Background(), apply(t, object, ""))
	checkAnswer(t, got, "warned", "[NoGrant]", "and 294 more")
	total := 0
	for _, w := range got.Warnings {
		total += len(w)
		if len(w) > 256 || !utf8.ValidString(w) || strings.ContainsAny(w, "\n\r\t") {
			t.Errorf("warning of %d bytes: %q", len(w), w)
		}
	}
	if total > 4096 {
		t.Errorf("warnings of %d bytes", total)
	}
	denied := workloadHook(t, knows(t, code().Obj()), true).Handle(context.Background(), apply(t, object, ""))
	checkAnswer(t, denied, "denied", "more")
	if n := len(denied.Result.Message); n > maxMessage+maxName {
		t.Errorf("message of %d bytes", n)
	}
	if n := len(denied.Result.Details.Causes); n > maxCauses {
		t.Errorf("%d causes", n)
	}
}

// TestToleratedWorkloads: of pods that will be admitted without being entitled it is told where the licence asks for it.
func TestToleratedWorkloads(t *testing.T) {
	for mode, want := range map[v1alpha1.EnforcementMode]string{
		v1alpha1.EnforcementEnforce: "denied", v1alpha1.EnforcementWarn: "warned", v1alpha1.EnforcementAudit: "allowed",
	} {
		license := code().Enforcement(mode).Obj()
		response := workloadHook(t, knows(t, license), false).Handle(context.Background(), apply(t, deployment("llm", codeImage), ""))
		says := map[string]string{"denied": "[NoGrant]", "warned": "not entitled, and admitted all the same [NoGrant]"}[want]
		checkAnswer(t, response, want, says)
	}
}

func TestLargeWorkloadsSaySo(t *testing.T) {
	object := `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"x":[` + strings.TrimSuffix(strings.Repeat("1,", workloads.MaxNodes), ",") + `]}}`
	checkAnswer(t, workloadHook(t, knows(t), false).Handle(context.Background(), apply(t, object, "")), "warned", "too large")
}

// Nothing answers but to who knows the path, and no more reviews are decoded than there is memory for.
func TestWorkloadsAreServedLikePods(t *testing.T) {
	secret := strings.Repeat("s", minSecret)
	mux := muxServer{http.NewServeMux()}
	if err := Register(mux, Options{PathSecret: secret, Rights: knows(t, code().Obj()), OperatorUser: operatorUser, Denials: &recordedDenials{}}); err != nil {
		t.Fatal(err)
	}
	review := func(path string) int {
		req := apply(t, deployment("llm", codeImage), "")
		body, err := json.Marshal(admissionv1.AdmissionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &req.AdmissionRequest,
		})
		if err != nil {
			t.Fatal(err)
		}
		httpReq := httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(body)))
		httpReq.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httpReq)
		return w.Code
	}
	if code := review(ValidateWorkloadsPath(secret)); code != http.StatusOK {
		t.Errorf("the API server gets %d", code)
	}
	for _, path := range []string{ValidateWorkloadsPath(""), ValidateWorkloadsPath("guess"), ValidateWorkloadsPath(secret + "x"), "/validate-workloads"} {
		if code := review(path); code == http.StatusOK {
			t.Errorf("%s answers", path)
		}
	}

	a := newWorkloadAdmittance()
	if a.wait+workloadLookupTimeout >= time.Second {
		t.Errorf("an answer may take %s, and API servers wait a second", a.wait+workloadLookupTimeout)
	}
	if !a.ordinary.TryAcquire(roomForWorkloads) || maxReview > roomForWorkloads {
		t.Error("there is no room for the largest review")
	}
	answered := false
	a.wait = time.Millisecond
	w := httptest.NewRecorder()
	a.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered = true })).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")))
	if answered || w.Code != http.StatusTooManyRequests {
		t.Errorf("a review without room gets %d", w.Code)
	}
}

type muxServer struct{ *http.ServeMux }

func (m muxServer) Register(path string, hook http.Handler) { m.Handle(path, hook) }
