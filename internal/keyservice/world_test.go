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
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/seats"
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

	// nodeLabels are the node's, as the API server has them.
	nodeLabels map[string]string
	// seats are changes to the ledger before anything else happens; nil gives each pod its seat.
	seats []seats.Change
	// limits are the licence's in the ledger, names and amounts.
	limits  []string
	book    *fakeBook
	bookErr error
	// stale is what the cache has where that is not what the API server has.
	stale *world
	// unsynced and outOfTouch are a replica that knows nothing, or no news.
	unsynced, outOfTouch bool
	// later is a time that is not confirmed.
	later func() (time.Time, bool)
	// lives counts reads of the API server, by kind.
	lives   map[string]int
	livesMu sync.Mutex
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

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

// releaser builds the Releaser of the world as it is now.
func (w *world) releaser(t *testing.T) *Releaser {
	t.Helper()
	scheme, objects := testScheme(t), w.objects()
	if !w.noSecret {
		objects = append(objects, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "modelrights-system", Name: licenseName + "-v2"},
			Data:       map[string][]byte{"key": []byte(w.secret)},
		})
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithIndex(&corev1.Pod{}, "spec.nodeName", func(o client.Object) []string {
		return []string{o.(*corev1.Pod).Spec.NodeName}
	}).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			w.countLive(kindOf(o))
			if err := w.failing[kindOf(o)]; err != nil {
				return err
			}
			if stored, ok := o.(*v1alpha1.ModelSeats); ok {
				return w.storedSeats(key, stored)
			}
			return c.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			w.countLive(kindOf(l) + "s")
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
	cached := w
	if w.stale != nil {
		cached = w.stale
	}
	w.book = w.newBook(t)
	return &Releaser{
		Reader: c, Tokens: c, Source: source, Audit: w.audit, Events: w.events,
		DriverNamespace: "modelrights-node", DriverServiceAccount: "modelrights-node", Clock: w.clock, Later: w.later,
		Seats: w.book, Ledgers: w.book, Cached: cached.cache(t), Rights: fakeRights{live: w, cached: cached},
		InTouch: func() bool { return !w.outOfTouch },
	}
}

// objects are what the API server has, but for Secrets.
func (w *world) objects() []client.Object {
	objects := []client.Object{w.namespace, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: w.nodeLabels}}}
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
	return objects
}

// cache reads what the cache has, pods as they are trimmed there.
func (w *world) cache(t *testing.T) client.Reader {
	t.Helper()
	objects := w.objects()
	for i, o := range objects {
		if pod, ok := o.(*corev1.Pod); ok {
			trimmed := pod.DeepCopy()
			trimmed.Annotations = nil
			objects[i] = trimmed
		}
	}
	return fake.NewClientBuilder().WithScheme(testScheme(t)).WithObjects(objects...).Build()
}

func (w *world) countLive(kind string) {
	w.livesMu.Lock()
	defer w.livesMu.Unlock()
	if w.lives == nil {
		w.lives = map[string]int{}
	}
	w.lives[kind]++
}

func kindOf(o any) string {
	switch o.(type) {
	case *corev1.Node:
		return "Node"
	case *v1alpha1.ModelSeats:
		return "ModelSeats"
	case *corev1.Pod, *corev1.PodList:
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
