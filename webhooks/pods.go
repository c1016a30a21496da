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

// podMutator brings key volumes into entitled pods, and digests into images that are licensed by digest. A pod that is not entitled passes unchanged: the validating webhook
// denies it. Only where nothing can be looked up does it deny itself, since a pod that turns out to be entitled a moment
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
	if v.lookupFailed() {
		return m.deny(mutatePods, &req, pod, v)
	}
	m.allowed(mutatePods, &req, string(v.allowedReason()))
	patch := append(pinPatch(pod, pinned), injectionPatch(pinned, Inject(pinned, v.uses.Licenses()))...)
	return admission.Patched("", patch...)
}

// podValidator admits pods only where every image and key volume is entitled. Of an update it decides on what changes.
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
	evaluate := func(s *entitlement.Snapshot, labels map[string]string, now time.Time) verdict {
		asked := podOf(&req, pod, labels)
		return verdict{uses: entitlement.DecidePod(asked, s, now), refusals: entitlement.DecideKeyVolumes(asked, s, now)}
	}
	if req.Operation == admissionv1.Update {
		old, err := decodePod(req.OldObject)
		if err != nil {
			return unreadable(err)
		}
		if !entitlement.ChangesAnything(&old.Spec, &pod.Spec) {
			p.allowed(validatePods, &req, reasonUnchanged)
			return admission.Allowed("")
		}
		evaluate = func(s *entitlement.Snapshot, labels map[string]string, now time.Time) verdict {
			uses, refusals := entitlement.DecideUpdate(podOf(&req, pod, labels), &old.Spec, s, now)
			return verdict{uses: uses, refusals: refusals}
		}
	}
	v := p.decide(ctx, req.Namespace, evaluate)
	if v.denied() {
		return p.deny(validatePods, &req, pod, v)
	}
	p.allowed(validatePods, &req, string(v.allowedReason()))
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
