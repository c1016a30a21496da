package webhooks

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

type seatsOf map[types.UID][]string

func (s seatsOf) LicensesOf(pod types.UID) []string { return slices.Clone(s[pod]) }

type recordedSessions []Session

func (r *recordedSessions) Opened(s Session) { *r = append(*r, s) }

// execWorld is what the webhooks for exec know; server has a seat of acme-chat.
type execWorld struct {
	options  ExecOptions
	rights   *fakeRights
	sessions *recordedSessions
	seats    seatsOf
}

func newExecWorld(t *testing.T, policy v1alpha1.ExecPolicy) *execWorld {
	t.Helper()
	license := chat().Obj()
	license.Spec.Terms.Exec = policy
	stricter := code().Obj()
	stricter.Spec.Terms.Exec = v1alpha1.ExecDeny
	held := server().Obj()
	held.UID = "uid-1"
	pods := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(held, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ml-prod", Name: "other", UID: "uid-2"}}).Build()
	w := &execWorld{rights: knows(t, license, stricter), sessions: &recordedSessions{}, seats: seatsOf{"uid-1": {"acme-chat"}}}
	w.options = ExecOptions{
		PathSecret: strings.Repeat("s", minSecret), Licenses: w.rights, Seats: w.seats, Pods: pods, Live: pods,
		Sessions: w.sessions, Clock: clocktesting.NewFakePassiveClock(now), Metrics: prometheus.NewRegistry(),
	}
	return w
}

func failing(t *testing.T, err error) client.Client {
	t.Helper()
	return fake.NewClientBuilder().WithScheme(scheme.Scheme).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return err
		},
	}).Build()
}

func connect(t *testing.T, subresource, pod string, options any) admission.Request {
	t.Helper()
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: admissionv1.Connect, Namespace: "ml-prod", Name: pod, SubResource: subresource, Object: raw(t, options),
	}}
	req.UserInfo.Username = "jane"
	return req
}

func execInto(t *testing.T, pod string) admission.Request {
	return connect(t, "exec", pod, &corev1.PodExecOptions{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodExecOptions"}, Container: "llm", Command: []string{"cat", "secret"},
	})
}

func attachTo(t *testing.T, pod string) admission.Request {
	return connect(t, "attach", pod, &corev1.PodAttachOptions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodAttachOptions"}})
}

func debugIn(t *testing.T, names ...string) admission.Request {
	t.Helper()
	old := server().Obj()
	old.UID = "uid-1"
	old.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "earlier"}}}
	updated := old.DeepCopy()
	for _, name := range names {
		updated.Spec.EphemeralContainers = append(updated.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "busybox"}})
	}
	req := request(admissionv1.Update, updated)
	req.SubResource, req.Object, req.OldObject = "ephemeralcontainers", raw(t, updated), raw(t, old)
	req.UserInfo.Username = "jane"
	return req
}

// TestExecPolicies says who gets in by the licences that a pod holds, and what is told of it.
func TestExecPolicies(t *testing.T) {
	for name, test := range map[string]struct {
		policy   v1alpha1.ExecPolicy
		change   func(*execWorld)
		request  func(*testing.T) admission.Request
		denied   bool
		sessions []string // licences and how
		verdict  string
	}{
		"denied":                         {policy: v1alpha1.ExecDeny, denied: true, sessions: []string{"acme-chat exec into container \"llm\""}, verdict: "denied"},
		"recorded":                       {policy: v1alpha1.ExecAudit, sessions: []string{"acme-chat exec into container \"llm\""}, verdict: "recorded"},
		"recorded where nothing is said": {policy: "", sessions: []string{"acme-chat exec into container \"llm\""}, verdict: "recorded"},
		"allowed":                        {policy: v1alpha1.ExecAllow, verdict: "allowed"},
		"another pod":                    {policy: v1alpha1.ExecDeny, request: func(t *testing.T) admission.Request { return execInto(t, "other") }, verdict: "allowed"},
		"no pod":                         {policy: v1alpha1.ExecDeny, request: func(t *testing.T) admission.Request { return execInto(t, "gone") }, verdict: "allowed"},
		"the strictest of two": {policy: v1alpha1.ExecAllow, change: func(w *execWorld) { w.seats["uid-1"] = []string{"acme-chat", "acme-code"} },
			denied: true, sessions: []string{"acme-code exec into container \"llm\""}, verdict: "denied"},
		"a key volume without a seat": {policy: v1alpha1.ExecDeny, change: func(w *execWorld) {
			delete(w.seats, "uid-1")
			pod := server().Obj()
			pod.UID = "uid-1"
			pod.Spec.Volumes = []corev1.Volume{{Name: "key", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: v1alpha1.CSIDriverName, VolumeAttributes: map[string]string{"license": "acme-chat"}}}}}
			w.options.Pods = fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(pod).Build()
		}, denied: true, sessions: []string{"acme-chat exec into container \"llm\""}, verdict: "denied"},
		"a licence that is gone":     {policy: v1alpha1.ExecDeny, change: func(w *execWorld) { w.seats["uid-1"] = []string{"acme-gone"} }, sessions: []string{"acme-gone exec into container \"llm\""}, verdict: "recorded"},
		"a pod newer than the cache": {policy: v1alpha1.ExecDeny, change: func(w *execWorld) { w.options.Pods = fake.NewClientBuilder().WithScheme(scheme.Scheme).Build() }, denied: true, sessions: []string{"acme-chat exec into container \"llm\""}, verdict: "denied"},
		"attach":                     {policy: v1alpha1.ExecDeny, request: func(t *testing.T) admission.Request { return attachTo(t, "server") }, denied: true, sessions: []string{"acme-chat attach to the default container"}, verdict: "denied"},
		"ephemeral container":        {policy: v1alpha1.ExecDeny, request: func(t *testing.T) admission.Request { return debugIn(t, "debug") }, denied: true, sessions: []string{"acme-chat add ephemeral container \"debug\" of image busybox to"}, verdict: "denied"},
		"ephemeral container as a dry run": {policy: v1alpha1.ExecDeny, request: func(t *testing.T) admission.Request {
			req := debugIn(t, "debug")
			req.DryRun = ptr.To(true)
			return req
		}, denied: true, verdict: "denied"},
		"no new ephemeral container": {policy: v1alpha1.ExecDeny, request: func(t *testing.T) admission.Request { return debugIn(t) }},
		"another subresource": {policy: v1alpha1.ExecDeny, request: func(t *testing.T) admission.Request {
			return connect(t, "portforward", "server", &corev1.PodPortForwardOptions{})
		}},
	} {
		for _, strict := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, strict %t", name, strict), func(t *testing.T) {
				w := newExecWorld(t, test.policy)
				if test.change != nil {
					test.change(w)
				}
				v := &execValidator{ExecOptions: w.options, strict: strict, decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x"}, []string{"operation", "verdict"})}
				req := execInto(t, "server")
				if test.request != nil {
					req = test.request(t)
				}
				response := v.Handle(t.Context(), req)
				if response.Allowed == test.denied {
					t.Fatalf("allowed %t: %v", response.Allowed, response.Result)
				}
				if test.denied {
					if response.Result.Code != http.StatusForbidden || string(response.Result.Details.Causes[0].Type) != string(v1alpha1.ReasonExecDenied) {
						t.Errorf("status %+v", response.Result)
					}
					for _, says := range []string{"modelrights: ", "[ExecDenied]", "pod server", "terms.exec is Deny", "kubectl logs"} {
						if !strings.Contains(response.Result.Message, says) {
							t.Errorf("message %q lacks %q", response.Result.Message, says)
						}
					}
				}
				var sessions []string
				for _, s := range *w.sessions {
					for _, l := range s.Licenses {
						sessions = append(sessions, l.Name+" "+s.How)
					}
					if s.Denied != test.denied || s.User != "jane" || !s.Time.Equal(now) || s.Pod.UID != "uid-1" {
						t.Errorf("session %+v", s)
					}
				}
				if diff := cmp.Diff(test.sessions, sessions); diff != "" {
					t.Errorf("sessions, wanted (-), got (+):\n%s", diff)
				}
				if test.verdict != "" && counted(t, v, req.SubResource, test.verdict) != 1 {
					t.Errorf("%s %s was not counted", req.SubResource, test.verdict)
				}
			})
		}
	}
}

// TestExecUndecided: where nothing can be said, the webhook for Deny keeps everybody out, and the one for Audit nobody.
func TestExecUndecided(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *execWorld, *admission.Request){
		"pods cannot be read": func(t *testing.T, w *execWorld, _ *admission.Request) {
			w.options.Pods, w.options.Live = failing(t, errUnreachable), failing(t, errUnreachable)
		},
		"licences were not read yet":    func(_ *testing.T, w *execWorld, _ *admission.Request) { w.rights.unsynced = true },
		"a panic":                       func(_ *testing.T, w *execWorld, _ *admission.Request) { w.rights.panics = true },
		"a request that cannot be read": func(_ *testing.T, _ *execWorld, req *admission.Request) { req.Object.Raw = []byte("{") },
	} {
		for _, strict := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, strict %t", name, strict), func(t *testing.T) {
				w, req := newExecWorld(t, v1alpha1.ExecDeny), execInto(t, "server")
				change(t, w, &req)
				v := &execValidator{ExecOptions: w.options, strict: strict, decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x"}, []string{"operation", "verdict"})}
				response := v.Handle(t.Context(), req)
				if response.Allowed == strict {
					t.Fatalf("allowed %t", response.Allowed)
				}
				if strict && !strings.Contains(response.Result.Message, "[LookupFailed]") {
					t.Errorf("message %q", response.Result.Message)
				}
				if counted(t, v, "exec", "failed") != 1 {
					t.Error("it was not counted")
				}
			})
		}
	}
}

func counted(t *testing.T, v *execValidator, operation, verdict string) float64 {
	t.Helper()
	var m dto.Metric
	if err := v.decisions.WithLabelValues(operation, verdict).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

type handlers map[string]http.Handler

func (h handlers) Register(path string, hook http.Handler) { h[path] = hook }

func TestRegisterExec(t *testing.T) {
	w := newExecWorld(t, v1alpha1.ExecDeny)
	served := handlers{}
	if err := RegisterExec(served, w.options); err != nil {
		t.Fatal(err)
	}
	if len(served) != 2 || served[denyExecPath] == nil || served[auditExecPath] == nil {
		t.Errorf("serves %v", served)
	}
	if err := RegisterExec(served, w.options); err == nil {
		t.Error("metrics were registered twice")
	}
	w.options.PathSecret = "short"
	if err := RegisterExec(served, w.options); err == nil {
		t.Error("a short secret was taken")
	}
}

type offered struct {
	entries []audit.Entry
	takes   bool
}

func (o *offered) Offer(e audit.Entry) bool {
	o.entries = append(o.entries, e)
	return o.takes
}

// TestSessionReporter: each licence has an entry, the pod one Event; and without room in the log one an hour.
func TestSessionReporter(t *testing.T) {
	pod := server().Obj()
	pod.UID, pod.Spec.NodeName = "uid-1", "node-1"
	session := Session{Time: now, Pod: pod, Licenses: []*v1alpha1.ModelLicense{chat().Obj(), code().Obj()}, User: "jane", How: "exec into container \"llm\""}
	for name, test := range map[string]struct {
		takes, denied bool
		again         int
		events        int
		says          string
	}{
		"allowed":         {true, false, 1, 1, "Warning ExecIntoKeyHolder jane was allowed to exec into container \"llm\""},
		"denied":          {true, true, 1, 1, "Warning ExecDenied jane was refused to exec into container \"llm\""},
		"each in the log": {true, false, 3, 3, "ExecIntoKeyHolder"},
		"none in the log": {false, false, 3, 1, "ExecIntoKeyHolder"},
	} {
		t.Run(name, func(t *testing.T) {
			log, recorder := &offered{takes: test.takes}, events.NewFakeRecorder(10)
			r := NewSessionReporter(log, recorder)
			s := session
			s.Denied = test.denied
			for range test.again {
				r.Opened(s)
			}
			if len(log.entries) != 2*test.again {
				t.Fatalf("%d entries", len(log.entries))
			}
			e := log.entries[0]
			want := audit.Entry{
				Type: audit.Exec, Time: now, Namespace: "ml-prod", Pod: audit.ObjectOf(pod), ServiceAccount: "llm", Node: "node-1",
				License: audit.ObjectOf(session.Licenses[0]), Reason: v1alpha1.ReasonExecIntoKeyHolder, Message: session.How, Actor: "jane",
			}
			if test.denied {
				want.Reason = v1alpha1.ReasonExecDenied
			}
			if diff := cmp.Diff(want, e); diff != "" {
				t.Errorf("entry, wanted (-), got (+):\n%s", diff)
			}
			if len(recorder.Events) != test.events {
				t.Fatalf("%d Events, want %d", len(recorder.Events), test.events)
			}
			if got := <-recorder.Events; !strings.Contains(got, test.says) {
				t.Errorf("Event %q, want %q", got, test.says)
			}
		})
	}
}
