package keyservice

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// ahead are the reads of a release that need nothing but what the driver says. They go to the API server together, while the
// pod's token is reviewed: one after another they are most of what a pod waits for. Nothing is made of what they return before
// the check is reached that asks for it, so that what a call may know of a pod is what its token proves.
type ahead struct {
	pod       func() (*corev1.Pod, error)
	namespace func() (*corev1.Namespace, error)
	license   func() (*v1alpha1.ModelLicense, error)
	grants    func() (*v1alpha1.ModelGrantList, error)
	// finish gives up what is still under way, and waits for its end.
	finish func()
}

// readAhead begins the reads for a volume.
func (r *Releaser) readAhead(ctx context.Context, v *protocol.Volume) *ahead {
	ctx, cancel := context.WithCancel(ctx)
	var under sync.WaitGroup
	a := &ahead{
		pod: begin(&under, func(pod *corev1.Pod) error {
			return r.Reader.Get(ctx, types.NamespacedName{Namespace: v.PodNamespace, Name: v.PodName}, pod)
		}),
		namespace: begin(&under, func(namespace *corev1.Namespace) error {
			return r.Reader.Get(ctx, types.NamespacedName{Name: v.PodNamespace}, namespace)
		}),
		license: begin(&under, func(license *v1alpha1.ModelLicense) error {
			return r.Reader.Get(ctx, types.NamespacedName{Name: v.License}, license)
		}),
		grants: begin(&under, func(grants *v1alpha1.ModelGrantList) error {
			// Without a namespace it would be a list of all.
			if v.PodNamespace == "" {
				return nil
			}
			return r.Reader.List(ctx, grants, client.InNamespace(v.PodNamespace))
		}),
	}
	a.finish = func() { cancel(); under.Wait() }
	return a
}

// begin starts a read and returns what waits for it.
func begin[T any](under *sync.WaitGroup, read func(*T) error) func() (*T, error) {
	into, done := new(T), make(chan error, 1)
	under.Go(func() { done <- read(into) })
	return sync.OnceValues(func() (*T, error) { return into, <-done })
}
