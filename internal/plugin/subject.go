package plugin

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/workloads"
)

// subject is pods that are asked about: one pod, or those of one template.
type subject struct {
	object    ObjectReference
	origin    Origin
	template  string
	namespace string
	account   string
	labels    map[string]string
	places    []place
	// spec is that of a pod, or of a template that has one; otherwise nil.
	spec *corev1.PodSpec
	// pod is a pod of the cluster; nil for pods that are yet to be made.
	pod *corev1.Pod
}

// place is a place of an object that names an image.
type place struct {
	images.Use
	normalized string
}

// subjectsOf lists whose pods an object is, or makes. An object that names no namespace is of the default one. Live says
// that it was read from the cluster, where nothing is rendered any more.
func subjectsOf(content map[string]any, origin Origin, table workloads.Table, defaultNamespace string, live bool) ([]*subject, error) {
	object := objectReference(content)
	if object.APIVersion == "v1" && object.Kind == "Pod" {
		s, err := podSubject(content, object, origin, defaultNamespace, live)
		if err != nil {
			return nil, err
		}
		return []*subject{s}, nil
	}
	scanned := workloads.Scan(content, table)
	var err error
	if scanned.Truncated {
		err = errTooLarge
	}
	var all []*subject
	byTemplate := map[*workloads.Template]*subject{}
	for _, found := range scanned.Found {
		s := byTemplate[found.Template]
		if s == nil {
			t := found.Template
			s = &subject{
				object: object, origin: origin, template: t.Path,
				namespace: firstOf(t.Namespace, object.Namespace, defaultNamespace),
				account:   firstOf(t.ServiceAccount, "default"), labels: t.Labels,
				spec: specAt(content, t.Path),
			}
			byTemplate[found.Template] = s
			all = append(all, s)
		}
		confidence := found.Confidence
		if live && confidence == images.Unresolved && found.Kind != "" && isDeclaredKind(found.Kind) {
			// Nothing is going to fill in the placeholder: this is what the pods name.
			confidence = images.Declared
		}
		s.places = append(s.places, place{
			Use:        images.Use{Kind: found.Kind, Confidence: confidence, Name: found.Name, Field: found.Path, Image: found.Image},
			normalized: found.Normalized,
		})
	}
	return all, err
}

func podSubject(content map[string]any, object ObjectReference, origin Origin, defaultNamespace string, live bool) (*subject, error) {
	pod := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, pod); err != nil {
		return nil, fmt.Errorf("is no valid Pod: %w", err)
	}
	s := &subject{
		object: object, origin: origin,
		namespace: firstOf(pod.Namespace, defaultNamespace),
		account:   firstOf(pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount, "default"),
		labels:    pod.Labels, spec: &pod.Spec,
	}
	if live {
		s.pod = pod
	}
	for _, use := range images.FromPod(&pod.Spec) {
		normalized := ""
		if ref, err := images.Parse(use.Image); err == nil {
			normalized = ref.String()
		}
		if !live && images.HasPlaceholder(use.Image) {
			use.Confidence = images.Unresolved
		}
		s.places = append(s.places, place{Use: use, normalized: normalized})
	}
	return s, nil
}

func isDeclaredKind(kind images.UseKind) bool {
	return slices.Contains([]images.UseKind{images.UseContainer, images.UseInitContainer, images.UseEphemeralContainer, images.UseImageVolume}, kind)
}

// specAt is the pod spec of the template at a path of an object; nil where there is none, or the path leads through a list.
func specAt(content map[string]any, path string) *corev1.PodSpec {
	if path == "" || strings.ContainsAny(path, `["`) {
		return nil
	}
	found, ok, err := unstructured.NestedMap(content, strings.Split(path, ".")...)
	if !ok || err != nil {
		return nil
	}
	if inner, ok := found["spec"].(map[string]any); ok {
		found = inner
	}
	if _, ok := found["containers"].([]any); !ok {
		return nil
	}
	spec := &corev1.PodSpec{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found, spec); err != nil {
		return nil
	}
	return spec
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
