package integration

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// watchman looks at each state of a ledger and of a namespace's pods, and notes where there are too many.
type watchman struct {
	mu      sync.Mutex
	against []string
	most    int
}

// guard watches that never more than limit pods hold a seat, and that no pod has lost its gate without one, until the spec
// is over.
func (w *seatsWorld) guard(namespace, license string, limit int) *watchman {
	GinkgoHelper()
	g := &watchman{}
	running, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; running.Err() == nil; i++ {
			g.lookAt(running, w.client, namespace, license, limit, i%20 == 0)
			select {
			case <-running.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	DeferCleanup(func() {
		stop()
		<-done
		g.mu.Lock()
		defer g.mu.Unlock()
		Expect(g.against).To(BeEmpty())
	})
	return g
}

// lookAt reads pods first: whoever has lost its gate by then is in the ledger that is read after it, unless it has ended.
func (g *watchman) lookAt(ctx context.Context, c client.Client, namespace, license string, limit int, withPods bool) {
	var started []corev1.Pod
	if withPods {
		var list corev1.PodList
		if c.List(ctx, &list, client.InNamespace(namespace)) != nil {
			return
		}
		started = slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool {
			return waits(&pod) || over(&pod) || pod.DeletionTimestamp != nil || !uses(&pod, license)
		})
	}
	var stored v1alpha1.ModelSeats
	if c.Get(ctx, client.ObjectKey{Name: license}, &stored) != nil {
		return
	}
	ledger, err := seats.Decode(&stored)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.against = append(g.against, err.Error())
		return
	}
	g.most = max(g.most, ledger.Len())
	if ledger.Len() > limit {
		g.against = append(g.against, fmt.Sprintf("%d pods hold seats of %s", ledger.Len(), license))
	}
	if len(started) > limit {
		g.against = append(g.against, fmt.Sprintf("%d pods of %s have started", len(started), license))
	}
	for i := range started {
		if _, ok := ledger.Holder(started[i].UID); ok {
			continue
		}
		var now corev1.Pod // it may have ended since
		if c.Get(ctx, client.ObjectKeyFromObject(&started[i]), &now) == nil && now.UID == started[i].UID && !over(&now) && now.DeletionTimestamp == nil {
			g.against = append(g.against, fmt.Sprintf("pod %s has started without a seat of %s", now.Name, license))
		}
	}
}

func uses(pod *corev1.Pod, license string) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Image == modelOf(license)+":1" })
}

func (g *watchman) peak() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.most
}
