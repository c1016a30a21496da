package plugin

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/resource"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/plugin/view"
)

// Bounds of what is asked of the API server: requests a second, as kubectl has them, and objects at once.
const (
	requestRate  = 50
	requestBurst = 300
	chunk        = 500
)

// operatorComponent is how the operator signs its Events.
const operatorComponent = "modelrights-operator"

// connect returns a reader of the cluster that the flags name, as the user that they name.
func connect(flags *genericclioptions.ConfigFlags, warnings io.Writer) (client.Reader, error) {
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = requestRate, requestBurst
	config.WarningHandler = rest.NewWarningWriter(warnings, rest.WarningWriterOptions{Deduplicate: true})
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: scheme})
}

// selection narrows the objects of a type, where no name is given.
type selection struct {
	labels        string
	allNamespaces bool
}

// fetchObjects reads the objects that arguments name, as kubectl get does. Where some cannot be read, it returns the
// others with the error.
func fetchObjects(flags *genericclioptions.ConfigFlags, which selection, args []string) ([]*unstructured.Unstructured, error) {
	namespace, _, err := flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, err
	}
	infos, err := resource.NewBuilder(flags).
		Unstructured().
		NamespaceParam(namespace).DefaultNamespace().AllNamespaces(which.allNamespaces).
		LabelSelectorParam(which.labels).
		ResourceTypeOrNameArgs(true, args...).
		RequestChunksOf(chunk).
		ContinueOnError().
		Flatten().
		Do().
		Infos()
	var objects []*unstructured.Unstructured
	for _, info := range infos {
		if object, ok := info.Object.(*unstructured.Unstructured); ok {
			objects = append(objects, object)
		}
	}
	return objects, err
}

// admissionOf is what is recorded of a pod: what was logged, what brings its keys, and what happened of late.
func admissionOf(ctx context.Context, api client.Reader, pod *corev1.Pod, seen *view.View) *Admission {
	a := &Admission{}
	for _, c := range pod.Status.Conditions {
		found := &Condition{Status: string(c.Status), Reason: c.Reason, Message: c.Message, Since: c.LastTransitionTime}
		switch c.Type {
		case v1alpha1.PodConditionLicensed:
			a.Condition = found
		case v1alpha1.PodConditionCopy:
			a.Copy = found
		}
	}
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if license, ours := entitlement.KeyVolume(volume); ours {
			a.KeyVolumes = append(a.KeyVolumes, KeyVolume{Name: volume.Name, License: license, Containers: images.Mounting(&pod.Spec, volume.Name)})
		}
	}
	var events corev1.EventList
	err := api.List(ctx, &events, client.InNamespace(pod.Namespace), client.MatchingFields{"involvedObject.uid": string(pod.UID)})
	if err != nil {
		seen.Miss(err, "list", "events", pod.Namespace)
		return a
	}
	for i := range events.Items {
		if e := &events.Items[i]; isOurs(e) {
			a.Events = append(a.Events, Event{Time: lastSeen(e), Type: e.Type, Reason: e.Reason, Message: e.Message, Count: int(max(e.Count, 1))})
		}
	}
	slices.SortStableFunc(a.Events, func(a, b Event) int { return cmp.Compare(a.Time.UnixNano(), b.Time.UnixNano()) })
	return a
}

// isOurs says whether an Event is the operator's, or the kubelet's about a volume of our driver.
func isOurs(e *corev1.Event) bool {
	if e.ReportingController == operatorComponent || e.Source.Component == operatorComponent {
		return true
	}
	return e.Reason == "FailedMount" && (strings.Contains(e.Message, v1alpha1.CSIDriverName) || strings.Contains(e.Message, `"`+v1alpha1.VolumeNamePrefix))
}

func lastSeen(e *corev1.Event) metav1.Time {
	if e.Series != nil {
		return metav1.NewTime(e.Series.LastObservedTime.Time)
	}
	for _, t := range []metav1.Time{e.LastTimestamp, metav1.NewTime(e.EventTime.Time), e.FirstTimestamp} {
		if !t.IsZero() {
			return t
		}
	}
	return e.CreationTimestamp
}
