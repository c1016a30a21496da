package webhooks

import (
	"context"
	"fmt"
	"net/http"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"modelrights.dev/modelrights/internal/entitlement"
)

const (
	mutatePods   = "mutate-pods"
	validatePods = "validate-pods"
)

// reasonUnchanged is what an update that changes nothing of concern counts as in the metrics.
const reasonUnchanged = "Unchanged"

// podMutator brings the scheduling gate into pods under a licence, key volumes and node selectors into entitled ones, and
// digests into images that are licensed by digest. A pod that is not entitled passes: the validating webhook denies it. Only where nothing can be looked up does it deny itself, since a pod that turns out to be entitled a moment
// later would be stored without its key.
type podMutator struct{ *decider }

// Handle implements admission.Handler.
func (m *podMutator) Handle(ctx context.Context, req admission.Request) admission.Response {
	if req.Operation != admissionv1.Create {
		return admission.Allowed("")
	}
	pod, err := decodePod(req.Object)
	if err != nil {
		return unreadable(err)
	}
	pinned := pod
	v := m.decide(ctx, req.Namespace, func(s *entitlement.Snapshot, labels map[string]string, now time.Time) verdict {
		pinned = Pin(pod, entitlement.PinPod(podOf(&req, pod, labels), s, now))
		return verdict{uses: entitlement.DecidePod(podOf(&req, pinned, labels), s, now)}
	})
	if v.lookupFailed() && v.denied() {
		return m.deny(mutatePods, &req, pod, v)
	}
	m.allowed(mutatePods, &req, string(v.allowedReason()))
	patch := append(pinPatch(pod, pinned), injectionPatch(pinned, Inject(pinned, v.uses.Licenses()))...)
	return admission.Patched("", append(patch, startPatch(pinned, v.uses)...)...)
}

// podValidator admits pods only where every image and key volume is entitled, and where they wait for their seats. Of an
// update it decides on what changes.
type podValidator struct{ *decider }

// Handle implements admission.Handler. Subresources of pods are all decided alike, also those that are not known today:
// their object is the pod as it is to be.
func (p *podValidator) Handle(ctx context.Context, req admission.Request) admission.Response {
	if req.Operation != admissionv1.Create && req.Operation != admissionv1.Update {
		return admission.Allowed("")
	}
	pod, err := decodePod(req.Object)
	if err != nil {
		return unreadable(err)
	}
	evaluate := p.creation(&req, pod)
	if req.Operation == admissionv1.Update {
		old, err := decodePod(req.OldObject)
		if err != nil {
			return unreadable(err)
		}
		if evaluate = p.update(&req, old, pod); evaluate == nil {
			p.allowed(validatePods, &req, reasonUnchanged)
			return admission.Allowed("")
		}
	}
	return p.answer(&req, pod, p.decide(ctx, req.Namespace, evaluate))
}

// creation decides on a new pod.
func (p *podValidator) creation(req *admission.Request, pod *corev1.Pod) evaluation {
	return func(s *entitlement.Snapshot, labels map[string]string, now time.Time) verdict {
		asked := podOf(req, pod, labels)
		v := verdict{uses: entitlement.DecidePod(asked, s, now), refusals: entitlement.DecideKeyVolumes(asked, s, now)}
		v.refusals = append(v.refusals, entitlement.DecideStart(asked, v.uses)...)
		v.refusals = append(v.refusals, p.decideRoom(pod, v.uses)...)
		return v
	}
}

// update decides on what an update changes; nil where that is nothing of concern, so that it passes whatever is known. A
// pod that is about to be let go without a seat is decided on as a whole.
func (p *podValidator) update(req *admission.Request, old, pod *corev1.Pod) evaluation {
	changed := entitlement.ChangesAnything(&old.Spec, &pod.Spec)
	going := pod.DeletionTimestamp != nil // The API server binds it to no node any more.
	ungated := !going && entitlement.RemovesGate(&old.Spec, &pod.Spec) && req.UserInfo.Username != p.operator
	resized := !going && entitlement.Resizes(&old.Spec, &pod.Spec) && p.holds(pod)
	if !changed && !ungated && !resized {
		return nil
	}
	return func(s *entitlement.Snapshot, labels map[string]string, now time.Time) verdict {
		var v verdict
		asked := podOf(req, pod, labels)
		asked.Seats = p.seatsOf(pod)
		asked.Held = len(asked.Seats) > 0
		if changed {
			v.uses, v.refusals = entitlement.DecideUpdate(asked, &old.Spec, s, now)
		}
		if ungated {
			v.uses = entitlement.DecidePod(asked, s, now)
			v.refusals = append(v.refusals, entitlement.DecideUngating(v.uses)...)
			v.unconfirmed = "spec.schedulingGates" // The pod would run without a seat, and could not be made to wait again.
		}
		if resized {
			v.refusals = append(v.refusals, p.decideResize(pod, s)...)
		}
		return v
	}
}

// answer denies, warns or admits as the verdict says.
func (p *podValidator) answer(req *admission.Request, pod *corev1.Pod, v verdict) admission.Response {
	switch {
	case v.denied():
		return p.deny(validatePods, req, pod, v)
	case v.refused():
		p.metrics.decided(validatePods, string(req.Operation), "tolerated", string(v.allowedReason()))
		return admission.Allowed("").WithWarnings(toleratedWarnings(v)...)
	}
	p.allowed(validatePods, req, string(v.allowedReason()))
	return admission.Allowed("")
}

func (d *decider) allowed(webhook string, req *admission.Request, reason string) {
	d.metrics.decided(webhook, string(req.Operation), "allowed", reason)
}

// podOf is what a decision needs to know. The namespace is the request's: the object's may be empty.
func podOf(req *admission.Request, pod *corev1.Pod, namespaceLabels map[string]string) entitlement.Pod {
	return entitlement.Pod{
		Namespace: req.Namespace, NamespaceLabels: namespaceLabels, Labels: pod.Labels, Spec: &pod.Spec,
	}
}

var podDecoder = func() admission.Decoder {
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	return admission.NewDecoder(scheme)
}()

// decodePod reads a pod. Objects of other kinds, which some subresources have, are an error: nothing can be said of them.
func decodePod(raw runtime.RawExtension) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := podDecoder.DecodeRaw(raw, pod); err != nil {
		return nil, err
	}
	return pod, nil
}

func unreadable(err error) admission.Response {
	return admission.Errored(http.StatusBadRequest, fmt.Errorf("modelrights: request denied, since it holds no pod that can be read: %w", err))
}
