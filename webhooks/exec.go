package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

const (
	// denyExecPath and auditExecPath precede the secret part of the paths of the webhooks for interactive access: rules
	// pods/exec and pods/attach CONNECT, pods/ephemeralcontainers UPDATE, sideEffects NoneOnDryRun.
	denyExecPath  = "/deny-exec/"
	auditExecPath = "/audit-exec/"
)

// DenyExecPath is where the webhook is served that API servers must reach, given the secret part of the path.
func DenyExecPath(secret string) string { return denyExecPath + secret }

// AuditExecPath is where the webhook is served that stands in nobody's way, given the secret part of the path.
func AuditExecPath(secret string) string { return auditExecPath + secret }

// KnownLicenses knows licences by name, from memory: *rights.Store.
type KnownLicenses interface {
	// Snapshot returns what is known now, and whether it is complete.
	Snapshot() (s *entitlement.Snapshot, synced bool)
}

// SeatHolders knows the licences that a pod holds seats of, from memory: *seatbook.View.
type SeatHolders interface {
	LicensesOf(pod types.UID) []string
}

// Sessions takes notice of interactive access to pods that hold a key. Opened is called while the API server waits, so it
// must not block.
type Sessions interface {
	Opened(Session)
}

// Session is somebody's interactive access to a pod that holds keys, or their wish for it.
type Session struct {
	// Time is when it was decided.
	Time time.Time
	// Pod is the pod, as far as caches keep it.
	Pod *corev1.Pod
	// Licenses are those whose keys the pod holds, and whose policy is not Allow; 1 to 16. One that is not known has a name
	// alone.
	Licenses []*v1alpha1.ModelLicense
	// Denied says that it was refused.
	Denied bool
	// User is who asked.
	User string
	// How is what they asked for, at most 256 bytes: exec into container "llm". It holds no command, which may hold secrets.
	How string
}

// ExecOptions are what the webhooks for interactive access need.
type ExecOptions struct {
	// PathSecret is as in Options. Required.
	PathSecret string
	// Licenses, Seats, and Pods, from the cache, say what a pod holds; Live reads a pod that the cache does not have. Required.
	Licenses   KnownLicenses
	Seats      SeatHolders
	Pods, Live client.Reader
	// Sessions is told of every access that is not allowed without more, unless it is a dry run. Required.
	Sessions Sessions
	// Clock tells the time. Required.
	Clock clock.PassiveClock
	// Metrics is where the metrics are registered. Required.
	Metrics prometheus.Registerer
}

// RegisterExec makes the server answer the webhooks for interactive access. The error says that the secret is too short, or
// that the metrics are registered already.
func RegisterExec(server Server, o ExecOptions) error {
	if len(o.PathSecret) < minSecret {
		return fmt.Errorf("webhooks need a PathSecret of at least %d characters", minSecret)
	}
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "modelrights_exec_decisions_total",
		Help: "Requests for interactive access that were decided in namespaces with licences that record or deny it, by operation (exec, attach, ephemeralcontainers) and verdict (allowed: the pod holds no such licence's key; recorded, denied, failed: the pod could not be looked up).",
	}, []string{"operation", "verdict"})
	if err := o.Metrics.Register(decisions); err != nil {
		return fmt.Errorf("registering the metrics of the webhooks for exec: %w", err)
	}
	room := newAdmittance()
	for path, strict := range map[string]bool{denyExecPath: true, auditExecPath: false} {
		handler := &execValidator{ExecOptions: o, strict: strict, decisions: decisions}
		server.Register(path, knowing(o.PathSecret, path, room.guard(&admission.Webhook{Handler: handler})))
	}
	return nil
}

// execValidator decides on exec, attach and ephemeral containers by the strictest of the licences that the pod holds.
type execValidator struct {
	ExecOptions
	// strict says that nobody gets in where it cannot be decided; otherwise everybody does.
	strict    bool
	decisions *prometheus.CounterVec
}

// errNoPod means that the request is about no pod that there is: the API server says so itself.
var errNoPod = errors.New("no such pod")

// Handle implements admission.Handler.
func (v *execValidator) Handle(ctx context.Context, req admission.Request) (response admission.Response) {
	defer func() {
		if fault := recover(); fault != nil {
			response = v.undecided(ctx, &req, fmt.Errorf("panic: %v", fault))
		}
	}()
	how, opens, err := whatIsOpened(&req)
	if err != nil {
		return v.undecided(ctx, &req, err)
	}
	if !opens {
		return admission.Allowed("")
	}
	pod, err := v.pod(ctx, &req)
	if errors.Is(err, errNoPod) {
		return v.allow(&req, "allowed")
	}
	if err != nil {
		return v.undecided(ctx, &req, err)
	}
	held, err := v.held(pod)
	if err != nil {
		return v.undecided(ctx, &req, err)
	}
	held = slices.DeleteFunc(held, func(l *v1alpha1.ModelLicense) bool { return l.Spec.Terms.Exec == v1alpha1.ExecAllow })
	if len(held) == 0 {
		return v.allow(&req, "allowed")
	}
	var denying []*v1alpha1.ModelLicense
	for _, l := range held {
		if l.Spec.Terms.Exec == v1alpha1.ExecDeny {
			denying = append(denying, l)
		}
	}
	if !ptr.Deref(req.DryRun, false) {
		v.Sessions.Opened(Session{
			Time: v.Clock.Now(), Pod: pod, Licenses: held[:min(len(held), maxCauses)], Denied: len(denying) > 0,
			User: req.UserInfo.Username, How: how,
		})
	}
	if len(denying) == 0 {
		return v.allow(&req, "recorded")
	}
	return v.deny(&req, denying[0])
}

// whatIsOpened says in words what is asked for, and whether it is access at all. An update that adds no ephemeral
// container is none.
func whatIsOpened(req *admission.Request) (how string, opens bool, err error) {
	switch operation := operationOf(req); {
	case req.Operation == admissionv1.Connect && operation == "exec":
		options := &corev1.PodExecOptions{}
		if err := podDecoder.DecodeRaw(req.Object, options); err != nil {
			return "", false, fmt.Errorf("reading what is to be opened: %w", err)
		}
		return into("exec into", options.Container), true, nil
	case req.Operation == admissionv1.Connect && operation == "attach":
		options := &corev1.PodAttachOptions{}
		if err := podDecoder.DecodeRaw(req.Object, options); err != nil {
			return "", false, fmt.Errorf("reading what is to be opened: %w", err)
		}
		return into("attach to", options.Container), true, nil
	case req.Operation == admissionv1.Update && operation == "ephemeralcontainers":
		pod, err := decodePod(req.Object)
		if err != nil {
			return "", false, err
		}
		old, err := decodePod(req.OldObject)
		if err != nil {
			return "", false, err
		}
		for _, c := range pod.Spec.EphemeralContainers {
			if !slices.ContainsFunc(old.Spec.EphemeralContainers, func(o corev1.EphemeralContainer) bool { return o.Name == c.Name }) {
				return fmt.Sprintf("add ephemeral container %q of image %s to", c.Name, clip(c.Image, maxName)), true, nil
			}
		}
		return "", false, nil
	default:
		return "", false, nil
	}
}

func into(verb, container string) string {
	if container == "" {
		return verb + " the default container"
	}
	return fmt.Sprintf("%s container %q", verb, clip(container, maxName))
}

// operationOf is the subresource, which is also what the metrics tell apart.
func operationOf(req *admission.Request) string { return req.SubResource }

// pod reads the pod: that of an update is in the request.
func (v *execValidator) pod(ctx context.Context, req *admission.Request) (*corev1.Pod, error) {
	if req.Operation == admissionv1.Update {
		return decodePod(req.OldObject)
	}
	pod := &corev1.Pod{}
	key := client.ObjectKey{Namespace: req.Namespace, Name: req.Name}
	err := v.Pods.Get(ctx, key, pod)
	if err != nil { // Newer than the cache, perhaps.
		ctx, cancel := context.WithTimeout(ctx, DefaultLookupTimeout)
		defer cancel()
		err = v.Live.Get(ctx, key, pod)
	}
	if apierrors.IsNotFound(err) {
		return nil, errNoPod
	}
	if err != nil {
		return nil, fmt.Errorf("reading the pod: %w", err)
	}
	return pod, nil
}

// held are the licences whose keys a pod holds: those that it has seats of, and those whose key volumes it has.
func (v *execValidator) held(pod *corev1.Pod) ([]*v1alpha1.ModelLicense, error) {
	names := append(v.Seats.LicensesOf(pod.UID), entitlement.HeldLicenses(&pod.Spec)...)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return nil, nil
	}
	snapshot, synced := v.Licenses.Snapshot()
	if !synced {
		return nil, errors.New("licences have not been read yet")
	}
	held := make([]*v1alpha1.ModelLicense, 0, len(names))
	for _, name := range names {
		license := snapshot.License(name)
		if license == nil { // Deleted: the key is about to be wiped.
			license = &v1alpha1.ModelLicense{ObjectMeta: metav1.ObjectMeta{Name: name}}
		}
		held = append(held, license)
	}
	return held, nil
}

func (v *execValidator) allow(req *admission.Request, verdict string) admission.Response {
	v.decisions.WithLabelValues(operationOf(req), verdict).Inc()
	return admission.Allowed("")
}

// deny refuses, and says what to do about it.
func (v *execValidator) deny(req *admission.Request, license *v1alpha1.ModelLicense) admission.Response {
	v.decisions.WithLabelValues(operationOf(req), "denied").Inc()
	return refuse(req, v1alpha1.ReasonExecDenied, fmt.Sprintf("pod %s holds the key of licence %s, whose terms.exec is %s; read what it writes with kubectl logs, or ask %s for terms.exec: %s",
		clip(req.Name, maxName), license.Name, v1alpha1.ExecDeny, license.Spec.Licensor, v1alpha1.ExecAudit))
}

// undecided refuses where a licence may deny access, and lets through where it is only recorded.
func (v *execValidator) undecided(ctx context.Context, req *admission.Request, err error) admission.Response {
	logf.FromContext(ctx).Error(err, "Cannot decide on interactive access", "namespace", req.Namespace, "pod", req.Name, "refused", v.strict)
	v.decisions.WithLabelValues(operationOf(req), "failed").Inc()
	if !v.strict {
		return admission.Allowed("")
	}
	return refuse(req, v1alpha1.ReasonLookupFailed, fmt.Sprintf("it cannot be decided now whether pod %s holds the key of a licence that denies interactive access; %s",
		clip(req.Name, maxName), entitlement.Decision{Reason: v1alpha1.ReasonLookupFailed}.Remedy()))
}

func refuse(req *admission.Request, reason v1alpha1.Reason, sentence string) admission.Response {
	response := admission.Denied("")
	response.Result = &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: clip(fmt.Sprintf("modelrights: %s denied [%s]: %s", operationOf(req), reason, strings.TrimSuffix(sentence, "; ")), maxMessage),
		Details: &metav1.StatusDetails{Kind: "pods", Name: req.Name, Causes: []metav1.StatusCause{{Type: metav1.CauseType(reason), Message: clip(sentence, maxCause)}}},
	}
	return response
}
