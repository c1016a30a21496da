package webhooks

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/json"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/workloads"
)

const (
	validateWorkloads = "validate-workloads"

	// validateWorkloadsPath precedes the secret part of the path of the webhook for workloads: CREATE and UPDATE of what
	// makes pods, failurePolicy Ignore, sideEffects None, timeoutSeconds 1.
	validateWorkloadsPath = "/validate-workloads/"

	// workloadLookupTimeout and workloadRoomWait together are shorter than the webhook's timeoutSeconds of 1.
	workloadLookupTimeout = 500 * time.Millisecond
	workloadRoomWait      = 200 * time.Millisecond

	// roomForWorkloads bounds the reviews of workloads that are decoded at the same time, in bytes, once for ordinary and
	// once for large ones. It is apart from that of pods, so that no workload holds up a pod.
	roomForWorkloads = 8 << 20
)

// ValidateWorkloadsPath is where the webhook for workloads is served, given the secret part of the path.
func ValidateWorkloadsPath(secret string) string { return validateWorkloadsPath + secret }

// WorkloadOptions are what the webhook for workloads needs beside Options.
type WorkloadOptions struct {
	// Table knows of kinds what cannot be seen in their objects. Optional.
	Table workloads.Table
	// DenyCustom makes custom resources be denied as the built-in workloads are. By default they are warned about, since
	// what their pods will be is a guess.
	DenyCustom bool
}

// workloadValidator tells who applies a workload what its pods will be denied for. It is early feedback and no
// enforcement: whatever cannot be decided passes, and the pods are decided on by themselves. Nothing of it is logged or
// told by Events, since whoever applied the workload is told directly.
type workloadValidator struct {
	*decider
	WorkloadOptions
}

func newWorkloadAdmittance() *admittance {
	return &admittance{ordinary: semaphore.NewWeighted(roomForWorkloads), large: semaphore.NewWeighted(roomForWorkloads), wait: workloadRoomWait}
}

// newWorkloadValidator decides as d does, but gives up sooner.
func newWorkloadValidator(d *decider, o WorkloadOptions) *workloadValidator {
	hasty := *d
	hasty.timeout = min(hasty.timeout, workloadLookupTimeout)
	return &workloadValidator{decider: &hasty, WorkloadOptions: o}
}

// Handle implements admission.Handler.
func (w *workloadValidator) Handle(ctx context.Context, req admission.Request) (response admission.Response) {
	defer func() {
		if r := recover(); r != nil {
			logf.FromContext(ctx).Error(fmt.Errorf("panic: %v", r), "Looking at a workload failed", "kind", req.Kind.Kind, "namespace", req.Namespace)
			response = w.unchecked(&req)
		}
	}()
	if req.Operation != admissionv1.Create && req.Operation != admissionv1.Update || req.SubResource != "" {
		return admission.Allowed("")
	}
	var object map[string]any
	if err := json.Unmarshal(req.Object.Raw, &object); err != nil {
		return w.unchecked(&req)
	}
	if isGoing(object) || isControlled(object) {
		return admission.Allowed("")
	}
	result := workloads.Scan(object, w.Table)
	found := result.Found
	if req.Operation == admissionv1.Update {
		var old map[string]any
		if err := json.Unmarshal(req.OldObject.Raw, &old); err != nil {
			return w.unchecked(&req)
		}
		if found = changed(found, workloads.Find(old, w.Table)); len(found) == 0 {
			w.allowed(validateWorkloads, &req, reasonUnchanged)
			return admission.Allowed("")
		}
	}
	v := w.decide(ctx, req.Namespace, func(s *entitlement.Snapshot, labels map[string]string, now time.Time) verdict {
		return verdict{uses: decideFound(found, req.Namespace, labels, s, now)}
	})
	if v.lookupFailed() && v.denied() {
		return w.unchecked(&req)
	}
	return w.answer(&req, v, result.Truncated)
}

// decideFound decides on the references that pods of the namespace will use, each once for the same pods.
func decideFound(found []workloads.Found, namespace string, labels map[string]string, s *entitlement.Snapshot, now time.Time) entitlement.PodDecision {
	type use struct {
		image    string
		template *workloads.Template
	}
	seen := make(map[use]bool, len(found))
	decided := make(entitlement.PodDecision, 0, len(found))
	for i := range found {
		f := &found[i]
		t := f.Template
		if f.Confidence == images.Unresolved || t.Namespace != "" && t.Namespace != namespace || seen[use{f.Image, t}] {
			continue
		}
		seen[use{f.Image, t}] = true
		decided = append(decided, entitlement.UseDecision{
			Use: images.Use{Kind: f.Kind, Name: f.Name, Field: f.Path, Image: f.Image, Confidence: f.Confidence},
			Decision: entitlement.Decide(entitlement.Request{
				Image: f.Image, Namespace: namespace, NamespaceLabels: labels, ServiceAccount: t.ServiceAccount, PodLabels: t.Labels,
			}, s, now),
		})
	}
	return decided
}

// changed lists the references that the old object has not for the same service account, wherever they stand.
func changed(found, old []workloads.Found) []workloads.Found {
	type use struct{ image, account string }
	known := make(map[use]bool, len(old))
	for i := range old {
		known[use{old[i].Image, old[i].Template.ServiceAccount}] = true
	}
	var fresh []workloads.Found
	for i := range found {
		if !known[use{found[i].Image, found[i].Template.ServiceAccount}] {
			fresh = append(fresh, found[i])
		}
	}
	return fresh
}

// isGoing says whether an object is being deleted: then it makes no pods any more, and must not be held up.
func isGoing(object map[string]any) bool {
	metadata, _ := object["metadata"].(map[string]any)
	at, _ := metadata["deletionTimestamp"].(string)
	return at != ""
}

// isControlled says whether a controller made the object: then what made it is what somebody applied.
func isControlled(object map[string]any) bool {
	metadata, _ := object["metadata"].(map[string]any)
	owners, _ := metadata["ownerReferences"].([]any)
	for _, owner := range owners {
		if m, ok := owner.(map[string]any); ok && m["controller"] == true {
			return true
		}
	}
	return false
}

// builtIn are the resources whose pod templates say exactly what the pods will be.
var builtIn = map[metav1.GroupResource]bool{
	{Group: "", Resource: "podtemplates"}:           true,
	{Group: "", Resource: "replicationcontrollers"}: true,
	{Group: "apps", Resource: "deployments"}:        true,
	{Group: "apps", Resource: "statefulsets"}:       true,
	{Group: "apps", Resource: "daemonsets"}:         true,
	{Group: "apps", Resource: "replicasets"}:        true,
	{Group: "batch", Resource: "jobs"}:              true,
	{Group: "batch", Resource: "cronjobs"}:          true,
}

// denies says whether a refused use is a reason to deny the workload rather than to warn. The labels of pods may have
// more in them than their template, so that a selector that does not match proves nothing.
func (w *workloadValidator) denies(req *admission.Request, reason v1alpha1.Reason) bool {
	if reason == v1alpha1.ReasonPodNotSelected {
		return false
	}
	return w.DenyCustom || builtIn[metav1.GroupResource{Group: req.Resource.Group, Resource: req.Resource.Resource}]
}

// answer denies, warns or admits as the verdict says.
func (w *workloadValidator) answer(req *admission.Request, v verdict, truncated bool) admission.Response {
	var denied, warned []refusal
	for _, u := range v.uses.Refused() {
		r := refusalsOf(verdict{uses: entitlement.PodDecision{u}})[0]
		if u.Kind == "" {
			r.place = u.Field
		}
		switch {
		case r.silent():
		case !r.tolerated && w.denies(req, u.Reason):
			denied = append(denied, r)
		default:
			warned = append(warned, r)
		}
	}
	switch {
	case len(denied) > 0:
		w.metrics.decided(validateWorkloads, string(req.Operation), "denied", string(denied[0].Reason))
		return deniedWorkload(req, denied)
	case len(warned) > 0:
		w.metrics.decided(validateWorkloads, string(req.Operation), "warned", string(warned[0].Reason))
		return admission.Allowed("").WithWarnings(workloadWarnings(req.Kind.Kind, warned, truncated)...)
	case truncated:
		w.allowed(validateWorkloads, req, string(v.allowedReason()))
		return admission.Allowed("").WithWarnings(truncatedWarning(req.Kind.Kind))
	}
	w.allowed(validateWorkloads, req, string(v.allowedReason()))
	return admission.Allowed("")
}

// unchecked admits what could not be decided, and says so.
func (w *workloadValidator) unchecked(req *admission.Request) admission.Response {
	w.metrics.decided(validateWorkloads, string(req.Operation), "warned", string(v1alpha1.ReasonLookupFailed))
	return admission.Allowed("").WithWarnings(clip(fmt.Sprintf(
		"modelrights: %s: the licences of its models could not be checked now [%s]; its pods will be", req.Kind.Kind, v1alpha1.ReasonLookupFailed), maxWarning))
}

// deniedWorkload is the answer that denies, in the form in which pods are denied.
func deniedWorkload(req *admission.Request, denied []refusal) admission.Response {
	status := &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: workloadMessage(req.Kind.Kind, denied),
		Details: &metav1.StatusDetails{Group: req.Resource.Group, Kind: req.Resource.Resource, Name: req.Name},
	}
	for _, r := range denied[:min(len(denied), maxCauses)] {
		status.Details.Causes = append(status.Details.Causes, metav1.StatusCause{
			Type: metav1.CauseType(r.Reason), Field: r.Field, Message: clip(r.Message+remedy(r.remedy), maxCause),
		})
	}
	response := admission.Denied("")
	response.Result = status
	return response
}
