package keyservice

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/test/builders"
)

const (
	driverToken  = "driver-token-SECRETTOKEN"
	podToken     = "pod-token-SECRETTOKEN"
	modelImage   = "registry.example.com/models/chat-7b:2.1"
	podUID       = "0b0c4a0e-5d0f-4f8e-9a57-2f7f3a1f9f10"
	namespace    = "ml-prod"
	node         = "node-a"
	licenseName  = "acme-chat-7b"
	otherLicense = "other-chat"
)

var now = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// tokenInfo is what the API server says of one token.
type tokenInfo struct {
	audiences []string
	user      authenticationv1.UserInfo
}

// world is everything around a Releaser, in the state in which it releases a key. Tests change it first.
type world struct {
	pod       *corev1.Pod
	more      []*corev1.Pod
	namespace *corev1.Namespace
	license   *v1alpha1.ModelLicense
	grants    []*v1alpha1.ModelGrant
	tokens    map[string]*tokenInfo
	bearer    string
	request   protocol.ReleaseRequest
	secret    string
	noSecret  bool

	// failing makes a call to the API server fail, by the kind it is about.
	failing map[string]error
	// reviewing is called for each review of a token.
	reviewing func(token string)
	audit     *fakeAudit
	events    *events.FakeRecorder
	steps     *steps
	log       *bytes.Buffer
	logMu     sync.Mutex
	source    func(keys.Source) keys.Source
	clock     *clocktesting.FakePassiveClock
}

// steps records in which order things happened.
type steps struct {
	mu    sync.Mutex
	names []string
}

func (s *steps) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = append(s.names, name)
}

func (s *steps) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.names)
}

// fakeAudit is a log in memory. Append is durable after gate is closed, where there is one, or for one node what hold
// has for it.
type fakeAudit struct {
	mu        sync.Mutex
	steps     *steps
	hold      map[string]chan struct{}
	appended  []audit.Entry
	submitted []audit.Entry
	err       error
	gate      chan struct{}
	begun     chan struct{}
}

func (a *fakeAudit) Append(ctx context.Context, e audit.Entry) (int64, error) {
	if a.gate != nil {
		close(a.begun)
		select {
		case <-a.gate:
		case <-ctx.Done():
			return -1, ctx.Err()
		}
	}
	if hold := a.hold[e.Node]; hold != nil {
		a.steps.add("held")
		select {
		case <-hold:
		case <-ctx.Done():
			return -1, ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return -1, a.err
	}
	a.appended = append(a.appended, e)
	a.steps.add("durable")
	return int64(len(a.appended)) - 1, nil
}

func (a *fakeAudit) Submit(e audit.Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.submitted = append(a.submitted, e)
}

// released is for how many pods of a node there is an entry of a release.
func (a *fakeAudit) released(node string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, e := range a.appended {
		if e.Node == node {
			n++
		}
	}
	return n
}

// countingSource records that a key was fetched.
type countingSource struct {
	keys.Source
	steps *steps
}

func (s countingSource) Fetch(ctx context.Context, l *v1alpha1.ModelLicense, name string) (keys.Material, error) {
	s.steps.add("fetch")
	return s.Source.Fetch(ctx, l, name)
}

func bound(username, podName, uid, node string) authenticationv1.UserInfo {
	return authenticationv1.UserInfo{Username: username, Extra: map[string]authenticationv1.ExtraValue{
		extraPodName: {podName}, extraPodUID: {uid}, extraNodeName: {node},
	}}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	pod := builders.Pod(namespace, "llm-0").ServiceAccount("llm-server").Container("server", modelImage).
		Owner("apps/v1", "ReplicaSet", "llm", "u1").KeyVolume(licenseName, "server").Obj()
	pod.UID, pod.Spec.NodeName = podUID, node
	license := builders.License(licenseName).Repository("registry.example.com/models/chat-7b").Key("v2").Namespaces(namespace).Obj()
	license.Generation, license.UID = 3, "license-uid"
	grant := builders.Grant(namespace, "chat", licenseName).ServiceAccount("llm-server").Obj()
	grant.Generation = 2
	s := &steps{}
	return &world{
		pod: pod, namespace: builders.Namespace(namespace).Obj(), license: license, grants: []*v1alpha1.ModelGrant{grant},
		tokens: map[string]*tokenInfo{
			driverToken: {[]string{protocol.AudienceDriver}, bound("system:serviceaccount:modelrights-node:modelrights-node", "modelrights-node-x", "driver-uid", node)},
			podToken:    {[]string{protocol.AudiencePod}, bound("system:serviceaccount:ml-prod:llm-server", "llm-0", podUID, node)},
		},
		bearer: driverToken,
		request: protocol.ReleaseRequest{PodToken: podToken, Volume: protocol.Volume{
			PodNamespace: namespace, PodName: "llm-0", PodUID: podUID, License: licenseName, Handle: "csi-1234",
		}},
		secret:  id.String(),
		failing: map[string]error{},
		audit:   &fakeAudit{steps: s},
		events:  events.NewFakeRecorder(4096),
		steps:   s,
		log:     &bytes.Buffer{},
		clock:   clocktesting.NewFakePassiveClock(now),
	}
}

// releaser builds the Releaser of the world as it is now.
func (w *world) releaser(t *testing.T) *Releaser {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	objects := []client.Object{w.namespace}
	if w.pod != nil {
		objects = append(objects, w.pod)
	}
	for _, p := range w.more {
		objects = append(objects, p)
	}
	if w.license != nil {
		objects = append(objects, w.license)
	}
	for _, g := range w.grants {
		objects = append(objects, g)
	}
	if !w.noSecret {
		objects = append(objects, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "modelrights-system", Name: licenseName + "-v2"},
			Data:       map[string][]byte{"key": []byte(w.secret)},
		})
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := w.failing[kindOf(o)]; err != nil {
				return err
			}
			return c.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			if err := w.failing[kindOf(l)]; err != nil {
				return err
			}
			return c.List(ctx, l, opts...)
		},
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			return w.review(t, o)
		},
	}).Build()
	var source keys.Source = countingSource{keys.NewSecretSource(c, "modelrights-system"), w.steps}
	if w.source != nil {
		source = w.source(source)
	}
	return &Releaser{
		Reader: c, Tokens: c, Source: source, Audit: w.audit, Events: w.events,
		DriverNamespace: "modelrights-node", DriverServiceAccount: "modelrights-node", Clock: w.clock,
	}
}

func kindOf(o any) string {
	switch o.(type) {
	case *corev1.Pod:
		return "Pod"
	case *corev1.Namespace:
		return "Namespace"
	case *corev1.Secret:
		return "Secret"
	case *v1alpha1.ModelLicense:
		return "ModelLicense"
	case *v1alpha1.ModelGrantList:
		return "ModelGrant"
	}
	return ""
}

// review answers a TokenReview as the API server does.
func (w *world) review(t *testing.T, o client.Object) error {
	tr, ok := o.(*authenticationv1.TokenReview)
	if !ok {
		t.Errorf("%T was created", o)
		return nil
	}
	if w.reviewing != nil {
		w.reviewing(tr.Spec.Token)
	}
	if err := w.failing["TokenReview "+tr.Spec.Audiences[0]]; err != nil {
		return err
	}
	info := w.tokens[tr.Spec.Token]
	if info == nil {
		tr.Status.Error = "no such token"
		return nil
	}
	for _, a := range tr.Spec.Audiences {
		if slices.Contains(info.audiences, a) {
			tr.Status.Authenticated = true
			tr.Status.Audiences = append(tr.Status.Audiences, a)
		}
	}
	// An API server that knows no audiences confirms without naming one.
	if slices.Contains(info.audiences, "") {
		tr.Status.Authenticated = true
	}
	if tr.Status.Authenticated {
		tr.Status.User = info.user
	}
	return nil
}

// handler builds the HTTP side.
func (w *world) handler(t *testing.T) http.Handler {
	t.Helper()
	s, err := NewServer(w.releaser(t), ServerOptions{
		Metrics: prometheus.NewRegistry(),
		Log: funcr.NewJSON(func(line string) {
			w.logMu.Lock()
			defer w.logMu.Unlock()
			w.log.WriteString(line + "\n")
		}, funcr.Options{Verbosity: 9}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.http.Handler
}

// httpRequest is the call as the driver makes it.
func (w *world) httpRequest(t *testing.T) *http.Request {
	t.Helper()
	body, err := json.Marshal(w.request)
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, protocol.ReleasePath, bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	if w.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+w.bearer)
	}
	return req
}

// call makes the call and returns the answer.
func (w *world) call(t *testing.T) *httptest.ResponseRecorder {
	t.Helper()
	answer := httptest.NewRecorder()
	w.handler(t).ServeHTTP(answer, w.httpRequest(t))
	return answer
}

// noSecrets fails the test where a key or a token stands in what was said to others.
func (w *world) noSecrets(t *testing.T, said ...string) {
	t.Helper()
	close(w.events.Events)
	for e := range w.events.Events {
		said = append(said, e)
	}
	entries, err := json.Marshal(append(slices.Clone(w.audit.appended), w.audit.submitted...))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append(said, w.log.String(), string(entries)) {
		if strings.Contains(text, w.secret[:30]) || strings.Contains(text, "SECRETTOKEN") {
			t.Errorf("a key or a token is told: %s", text)
		}
	}
}
