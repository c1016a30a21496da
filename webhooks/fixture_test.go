package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
)

var now = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

const (
	chatImage = "registry.example.com/models/chat:2.1"
	codeImage = "registry.example.com/models/code:1"
)

func chat() *builders.LicenseBuilder {
	return builders.License("acme-chat").Repository("registry.example.com/models/chat").Key("v2").Namespaces("ml-prod")
}

func code() *builders.LicenseBuilder {
	return builders.License("acme-code").Repository("registry.example.com/models/code").Key("v1").Namespaces("ml-prod")
}

func server() *builders.PodBuilder { return builders.Pod("ml-prod", "server").ServiceAccount("llm") }

func grantOf(licenseName string) *v1alpha1.ModelGrant {
	return builders.Grant("ml-prod", licenseName+"-grant", licenseName).ServiceAccount("llm").Obj()
}

func snapshot(t testing.TB, objects ...any) *entitlement.Snapshot {
	t.Helper()
	s, err := entitlement.New([]string{"registry.example.com/governed/**"})
	if err != nil {
		t.Fatal(err)
	}
	changes := entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{}, Grants: map[entitlement.GrantKey]*v1alpha1.ModelGrant{}}
	for _, object := range objects {
		switch o := object.(type) {
		case *v1alpha1.ModelLicense:
			changes.Licenses[o.Name] = o
		case *v1alpha1.ModelGrant:
			changes.Grants[entitlement.GrantKey{Namespace: o.Namespace, Name: o.Name}] = o
		default:
			t.Fatalf("neither a licence nor a grant: %T", object)
		}
	}
	return s.Apply(changes)
}

var errUnreachable = errors.New("the API server cannot be reached")

// fakeRights is what memory and the API server know.
type fakeRights struct {
	cached, live             *entitlement.Snapshot
	unsynced                 bool
	liveErr                  error
	cachedLabels, liveLabels map[string]string
	cachedLabelsErr          error
	liveLabelsErr            error
	liveReads                int
	liveNamespace            string
	panics                   bool
}

func (f *fakeRights) Snapshot() (*entitlement.Snapshot, bool) {
	if f.panics {
		panic("boom")
	}
	if f.unsynced {
		return nil, false
	}
	return f.cached, true
}

func (f *fakeRights) Live(ctx context.Context, namespace string) (*entitlement.Snapshot, error) {
	f.liveReads++
	f.liveNamespace = namespace
	if _, bounded := ctx.Deadline(); !bounded {
		return nil, errors.New("the read is not bounded in time")
	}
	return f.live, f.liveErr
}

func (f *fakeRights) NamespaceLabels(_ context.Context, _ string, live bool) (map[string]string, error) {
	if live {
		return f.liveLabels, f.liveLabelsErr
	}
	return f.cachedLabels, f.cachedLabelsErr
}

// knows is rights which memory and the API server know alike.
func knows(t testing.TB, objects ...any) *fakeRights {
	s := snapshot(t, objects...)
	return &fakeRights{cached: s, live: s}
}

type recordedDenials []Denial

func (r *recordedDenials) Denied(d Denial) { *r = append(*r, d) }

// operatorUser is the operator's account.
const operatorUser = "system:serviceaccount:modelrights-system:modelrights-operator"

// hooks are both webhooks, as the server would serve them.
type hooks struct {
	t                testing.TB
	mutate, validate *admission.Webhook
	rights           *fakeRights
	decider          *decider
	denials          *recordedDenials
	registry         *prometheus.Registry
}

func newHooks(t testing.TB, rights *fakeRights) *hooks {
	t.Helper()
	h := &hooks{t: t, rights: rights, denials: &recordedDenials{}, registry: prometheus.NewRegistry()}
	d, err := newDecider(Options{Rights: rights, OperatorUser: operatorUser, Denials: h.denials, Clock: clocktesting.NewFakePassiveClock(now), Metrics: h.registry})
	if err != nil {
		t.Fatal(err)
	}
	h.decider = d
	h.mutate, h.validate = hook(&podMutator{d}), hook(&podValidator{d})
	return h
}

func raw(t testing.TB, object any) runtime.RawExtension {
	t.Helper()
	encoded, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return runtime.RawExtension{Raw: encoded}
}

// create is the request to create a pod.
func create(t testing.TB, b *builders.PodBuilder) admission.Request {
	pod := b.Obj()
	req := request(admissionv1.Create, pod)
	pod.Namespace = "" // the object of a request need not carry it
	req.Object = raw(t, pod)
	return req
}

// update is the request to update a pod, or a subresource of it.
func update(t testing.TB, subresource string, old, updated *builders.PodBuilder) admission.Request {
	req := request(admissionv1.Update, updated.Obj())
	req.SubResource = subresource
	req.Object, req.OldObject = raw(t, updated.Obj()), raw(t, old.Obj())
	return req
}

func request(operation admissionv1.Operation, pod *corev1.Pod) admission.Request {
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "request", Operation: operation, Namespace: pod.Namespace, Name: pod.Name,
		UserInfo: authenticationv1.UserInfo{Username: "system:serviceaccount:kube-system:replicaset-controller"},
	}}
}
