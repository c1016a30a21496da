package keyservice

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/test/builders"
)

func TestRelease(t *testing.T) {
	w := newWorld(t)
	answer := w.call(t)
	if answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	var response protocol.ReleaseResponse
	if err := json.Unmarshal(answer.Body.Bytes(), &response); err != nil {
		t.Fatal(err)
	}
	if got := string(response.Files[v1alpha1.KeyFileName]); got != w.secret+"\n" || len(response.Files) != 1 {
		t.Error("the answer does not hold the key, and nothing else")
	}
	if got := answer.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	if len(w.audit.appended) != 1 || len(w.audit.submitted) != 0 {
		t.Fatalf("%d releases and %d refusals were logged", len(w.audit.appended), len(w.audit.submitted))
	}
	want := audit.Entry{
		Type: audit.KeyReleased, Namespace: namespace, Pod: audit.Object{Name: "llm-0", UID: podUID},
		Owner: audit.Owner{Kind: "ReplicaSet", Name: "llm"}, ServiceAccount: "llm-server", Node: node,
		License: audit.Object{Name: licenseName, UID: "license-uid", Generation: 3}, Grant: audit.Object{Name: "chat", Generation: 2},
		Keys: []string{"v2"}, Images: []string{modelImage}, Reason: v1alpha1.ReasonEntitled,
		Message: "for containers server, through node driver pod modelrights-node-x, volume csi-1234",
		Actor:   "system:serviceaccount:modelrights-node:modelrights-node",
	}
	if got := w.audit.appended[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("entry\n%+v, want\n%+v", got, want)
	}
	if e := <-w.events.Events; !strings.HasPrefix(e, "Normal KeyReleased ") {
		t.Errorf("event %q", e)
	}
	w.noSecrets(t)
}

// errBroken is a failure whose text must stay in the server's log.
var errBroken = errors.New("broken: internal detail")

func TestRefusals(t *testing.T) {
	licensed := func() *builders.PodBuilder { return builders.Pod(namespace, "llm-0").ServiceAccount("llm-server") }
	as := func(b *builders.PodBuilder) *corev1.Pod {
		pod := b.Obj()
		pod.UID, pod.Spec.NodeName = podUID, node
		return pod
	}
	tests := map[string]struct {
		change func(*world)
		reason v1alpha1.Reason
		status int
		// unproven is set where nothing proves which pod it is about.
		unproven bool
		// noEvent is set where the pod was not found to be the one.
		noEvent bool
	}{
		// The caller.
		"no token":                        {func(w *world) { w.bearer = "" }, v1alpha1.ReasonUnauthenticated, 401, true, true},
		"a token that nobody issued":      {func(w *world) { w.bearer = "made-up" }, v1alpha1.ReasonUnauthenticated, 401, true, true},
		"the pod's token as the driver's": {func(w *world) { w.bearer = podToken }, v1alpha1.ReasonUnauthenticated, 401, true, true},
		"the pod's token of the driver's audience": {func(w *world) {
			w.tokens[podToken].audiences = []string{protocol.AudiencePod, protocol.AudienceDriver}
			w.bearer = podToken
		}, v1alpha1.ReasonNotNodeDriver, 403, true, true},
		"the driver's token of another audience": {func(w *world) { w.tokens[driverToken].audiences = []string{"https://kubernetes.default.svc"} },
			v1alpha1.ReasonUnauthenticated, 401, true, true},
		"the driver's token confirmed without an audience": {func(w *world) { w.tokens[driverToken].audiences = []string{""} },
			v1alpha1.ReasonUnauthenticated, 401, true, true},
		"the driver's account in another namespace": {func(w *world) {
			w.tokens[driverToken].user.Username = "system:serviceaccount:ml-prod:modelrights-node"
		}, v1alpha1.ReasonNotNodeDriver, 403, true, true},
		"another account of the driver's namespace": {func(w *world) {
			w.tokens[driverToken].user.Username = "system:serviceaccount:modelrights-node:default"
		}, v1alpha1.ReasonNotNodeDriver, 403, true, true},
		"a user with the driver's name": {func(w *world) { w.tokens[driverToken].user.Username = "modelrights-node:modelrights-node" },
			v1alpha1.ReasonNotNodeDriver, 403, true, true},
		"the driver's token without a pod": {func(w *world) { delete(w.tokens[driverToken].user.Extra, extraPodName) },
			v1alpha1.ReasonTokenNotBound, 403, true, true},
		"the driver's token without a pod UID": {func(w *world) { delete(w.tokens[driverToken].user.Extra, extraPodUID) },
			v1alpha1.ReasonTokenNotBound, 403, true, true},
		"the driver's token without a node": {func(w *world) { delete(w.tokens[driverToken].user.Extra, extraNodeName) },
			v1alpha1.ReasonTokenNotBound, 403, true, true},
		"the driver's token of two nodes": {func(w *world) {
			w.tokens[driverToken].user.Extra[extraNodeName] = authenticationv1.ExtraValue{node, "node-b"}
		}, v1alpha1.ReasonTokenNotBound, 403, true, true},
		"no review of the driver's token": {func(w *world) { w.failing["TokenReview "+protocol.AudienceDriver] = errBroken },
			v1alpha1.ReasonLookupFailed, 503, true, true},

		// The pod's token.
		"no pod token":                    {func(w *world) { w.request.PodToken = "" }, v1alpha1.ReasonUnauthenticated, 401, true, true},
		"the driver's token as the pod's": {func(w *world) { w.request.PodToken = driverToken }, v1alpha1.ReasonUnauthenticated, 401, true, true},
		"a pod token of another audience": {func(w *world) { w.tokens[podToken].audiences = []string{"vault"} },
			v1alpha1.ReasonUnauthenticated, 401, true, true},
		"a pod token without a pod": {func(w *world) { w.tokens[podToken].user.Extra = nil }, v1alpha1.ReasonTokenNotBound, 403, true, true},
		"a pod token without a node": {func(w *world) { delete(w.tokens[podToken].user.Extra, extraNodeName) },
			v1alpha1.ReasonTokenNotBound, 403, true, true},
		"a token of another pod": {func(w *world) { w.tokens[podToken].user.Extra[extraPodName] = authenticationv1.ExtraValue{"llm-1"} },
			v1alpha1.ReasonPodMismatch, 403, false, true},
		"a token of an earlier pod of that name": {func(w *world) { w.tokens[podToken].user.Extra[extraPodUID] = authenticationv1.ExtraValue{"old"} },
			v1alpha1.ReasonPodMismatch, 403, false, true},
		"a token of a pod in another namespace": {func(w *world) { w.tokens[podToken].user.Username = "system:serviceaccount:other:llm-server" },
			v1alpha1.ReasonPodMismatch, 403, false, true},
		"a token of a pod on another node": {func(w *world) { w.tokens[podToken].user.Extra[extraNodeName] = authenticationv1.ExtraValue{"node-b"} },
			v1alpha1.ReasonPodMismatch, 403, false, true},
		"no review of the pod's token": {func(w *world) { w.failing["TokenReview "+protocol.AudiencePod] = errBroken },
			v1alpha1.ReasonLookupFailed, 503, true, true},

		// The pod.
		"the pod is gone":          {func(w *world) { w.pod = nil }, v1alpha1.ReasonPodGone, 403, false, true},
		"another pod has its name": {func(w *world) { w.pod.UID = "new" }, v1alpha1.ReasonPodGone, 403, false, true},
		"the pod is being deleted": {func(w *world) {
			w.pod.DeletionTimestamp, w.pod.Finalizers = &metav1.Time{Time: now}, []string{"example.com/wait"}
		}, v1alpha1.ReasonPodGone, 403, false, false},
		"the pod has succeeded":      {func(w *world) { w.pod.Status.Phase = corev1.PodSucceeded }, v1alpha1.ReasonPodGone, 403, false, false},
		"the pod has failed":         {func(w *world) { w.pod.Status.Phase = corev1.PodFailed }, v1alpha1.ReasonPodGone, 403, false, false},
		"the pod is on another node": {func(w *world) { w.pod.Spec.NodeName = "node-b" }, v1alpha1.ReasonPodMismatch, 403, false, false},
		"the pod is on no node yet":  {func(w *world) { w.pod.Spec.NodeName = "" }, v1alpha1.ReasonPodMismatch, 403, false, false},
		"the pod has another account": {func(w *world) { w.pod.Spec.ServiceAccountName = "other" },
			v1alpha1.ReasonPodMismatch, 403, false, false},
		"the pod has no key volume": {func(w *world) { w.pod = as(licensed().Container("server", modelImage)) },
			v1alpha1.ReasonPodMismatch, 403, false, false},
		"the pod's key volume is of another licence": {func(w *world) {
			w.pod = as(licensed().Container("server", modelImage).KeyVolume(otherLicense, "server"))
		}, v1alpha1.ReasonPodMismatch, 403, false, false},
		"no licence is named":    {func(w *world) { w.request.Volume.License = "" }, v1alpha1.ReasonPodMismatch, 403, false, false},
		"the pod cannot be read": {func(w *world) { w.failing["Pod"] = errBroken }, v1alpha1.ReasonLookupFailed, 503, false, true},

		// What entitles it.
		"entitled account, no licensed image": {func(w *world) {
			w.pod = as(licensed().Container("server", "docker.io/library/busybox").KeyVolume(licenseName, "server"))
		}, v1alpha1.ReasonModelNotReferenced, 403, false, false},
		"licensed image in an ephemeral container alone": {func(w *world) {
			w.pod = as(licensed().Container("server", "docker.io/library/busybox").EphemeralContainer("debug", modelImage).KeyVolume(licenseName))
		}, v1alpha1.ReasonModelNotReferenced, 403, false, false},
		"licensed image volume that nobody mounts": {func(w *world) {
			w.pod = as(licensed().Container("server", "docker.io/library/busybox").ImageVolume("model", modelImage).KeyVolume(licenseName))
		}, v1alpha1.ReasonModelNotReferenced, 403, false, false},
		"a container that uses no model mounts the key": {func(w *world) {
			w.pod = as(licensed().Container("server", modelImage).Container("shell", "docker.io/library/busybox").KeyVolume(licenseName, "server", "shell"))
		}, v1alpha1.ReasonModelNotReferenced, 403, false, false},
		"an ephemeral container mounts the key": {func(w *world) {
			w.pod = as(licensed().Container("server", modelImage).EphemeralContainer("debug", modelImage).KeyVolume(licenseName, "server", "debug"))
		}, v1alpha1.ReasonKeyVolumeInvalid, 403, false, false},
		"the volume has other attributes": {func(w *world) { w.pod.Spec.Volumes[0].CSI.VolumeAttributes["more"] = "x" },
			v1alpha1.ReasonKeyVolumeInvalid, 403, false, false},
		"the licence is gone": {func(w *world) { w.license = nil }, v1alpha1.ReasonLicenseMissing, 403, false, false},
		"the licence has expired": {func(w *world) { w.license.Spec.Terms.NotAfter = &metav1.Time{Time: now} },
			v1alpha1.ReasonExpired, 403, false, false},
		"the licence does not hold yet": {func(w *world) { w.license.Spec.Terms.NotBefore = &metav1.Time{Time: now.Add(time.Second)} },
			v1alpha1.ReasonNotYetValid, 403, false, false},
		"the licence does not name the namespace": {func(w *world) { w.license.Spec.AllowedNamespaces.Names = []string{"other"} },
			v1alpha1.ReasonNamespaceNotAllowed, 403, false, false},
		"the licence selects other namespaces": {func(w *world) {
			w.license.Spec.AllowedNamespaces = v1alpha1.AllowedNamespaces{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"models": "yes"}}}
		}, v1alpha1.ReasonNamespaceNotAllowed, 403, false, false},
		"the grant is gone":               {func(w *world) { w.grants = nil }, v1alpha1.ReasonNoGrant, 403, false, false},
		"the grant is of another licence": {func(w *world) { w.grants[0].Spec.LicenseName = otherLicense }, v1alpha1.ReasonNoGrant, 403, false, false},
		"the grant is of another account": {func(w *world) { w.grants[0].Spec.Subjects[0].Name = "other" },
			v1alpha1.ReasonSubjectNotGranted, 403, false, false},
		"the licence cannot be read":   {func(w *world) { w.failing["ModelLicense"] = errBroken }, v1alpha1.ReasonLookupFailed, 503, false, false},
		"the grants cannot be read":    {func(w *world) { w.failing["ModelGrant"] = errBroken }, v1alpha1.ReasonLookupFailed, 503, false, false},
		"the namespace cannot be read": {func(w *world) { w.failing["Namespace"] = errBroken }, v1alpha1.ReasonLookupFailed, 503, false, false},

		// The key and the log.
		"the licence has no key": {func(w *world) { w.license.Spec.Keys = nil }, v1alpha1.ReasonNoKey, 403, false, false},
		"the Secret is missing":  {func(w *world) { w.noSecret = true }, v1alpha1.ReasonKeySecretMissing, 403, false, false},
		"the key is empty":       {func(w *world) { w.secret = strings.Repeat(" ", 40) }, v1alpha1.ReasonKeyEmpty, 403, false, false},
		"the key is no key":      {func(w *world) { w.secret = "AGE-SECRET-KEY-1MARKERMARKERMARKER" }, v1alpha1.ReasonKeyInvalid, 403, false, false},
		"the key cannot be read": {func(w *world) { w.failing["Secret"] = errBroken }, v1alpha1.ReasonKeyUnavailable, 503, false, false},
		"the log takes no entry": {func(w *world) { w.audit.err = errBroken }, v1alpha1.ReasonAuditUnavailable, 503, false, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.change(w)
			answer := w.call(t)
			var refusal protocol.Error
			if err := json.Unmarshal(answer.Body.Bytes(), &refusal); err != nil {
				t.Fatalf("%v: %s", err, answer.Body)
			}
			if answer.Code != tc.status || refusal.Reason != tc.reason {
				t.Fatalf("status %d, reason %s (%s), want %d, %s", answer.Code, refusal.Reason, refusal.Message, tc.status, tc.reason)
			}
			if refusal.Message == "" || refusal.Remedy == "" || refusal.Temporary != (tc.status == 503) {
				t.Errorf("the refusal does not say what to do: %+v", refusal)
			}
			if strings.Contains(answer.Body.String(), "internal detail") && tc.reason != v1alpha1.ReasonKeyUnavailable {
				t.Errorf("the answer tells of the inside: %s", answer.Body)
			}
			if len(w.audit.appended) != 0 || len(w.audit.submitted) != 1 {
				t.Fatalf("%d releases and %d refusals were logged, want 0 and 1", len(w.audit.appended), len(w.audit.submitted))
			}
			entry := w.audit.submitted[0]
			if entry.Type != audit.KeyRefused || entry.Reason != tc.reason {
				t.Errorf("entry %+v", entry)
			}
			if proven := entry.Namespace != "" || entry.Pod != (audit.Object{}); proven == tc.unproven {
				t.Errorf("entry names %s/%s", entry.Namespace, entry.Pod.Name)
			}
			if got := len(w.events.Events) == 0; got != tc.noEvent {
				t.Errorf("event missing: %v, want %v", got, tc.noEvent)
			}
			w.noSecrets(t, answer.Body.String())
		})
	}
}

// A key volume of another licence in the same pod is that licence's business.
func TestReleaseBesideAnotherLicense(t *testing.T) {
	w := newWorld(t)
	pod := builders.Pod(namespace, "llm-0").ServiceAccount("llm-server").Container("server", modelImage).
		KeyVolume(otherLicense, "server").KeyVolume(licenseName, "server").Obj()
	pod.UID, pod.Spec.NodeName = podUID, node
	w.pod = pod
	if answer := w.call(t); answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
}

// A pod that mounts the model as an image volume, in a container of another image, gets the key there.
func TestReleaseForImageVolume(t *testing.T) {
	w := newWorld(t)
	pod := builders.Pod(namespace, "llm-0").ServiceAccount("llm-server").Container("server", "docker.io/vllm/vllm").
		ImageVolume("model", modelImage, "server").KeyVolume(licenseName, "server").Obj()
	pod.UID, pod.Spec.NodeName = podUID, node
	w.pod = pod
	if answer := w.call(t); answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
}
