//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/test/builders"
)

// A pod that names no governed model never waits for modelrights, whatever happens to it.
var _ = Describe("Ordinary pods", Ordered, func() {
	var t tenant
	var stream *podStream

	BeforeAll(func(ctx SpecContext) {
		t = newTenant(ctx)
		stream = startPodStream(t.namespace)
		DeferCleanup(stream.stop)
	})

	AfterEach(func() {
		before := stream.created.Load()
		Eventually(func() int64 { return stream.created.Load() }).Should(BeNumerically(">", before+20), "pods are created again")
		Expect(stream.refusals()).To(BeEmpty(), "ordinary pods were refused")
	})

	// refusedStill waits until a pod with the model is refused: by a verdict, or since nobody can give one.
	refusedStill := func(ctx context.Context) {
		GinkgoHelper()
		Eventually(func() error {
			return api.Create(ctx, t.pod("thief", installed.server), client.DryRunAll)
		}).Should(MatchError(Or(ContainSubstring("NoGrant"), ContainSubstring("validate.pods.modelrights.dev"), ContainSubstring("mutate.pods.modelrights.dev"))))
	}

	It("are created while no operator runs, and those with a model are not", func(ctx SpecContext) {
		scaleOperator(ctx, 0)
		DeferCleanup(func(ctx SpecContext) { scaleOperator(ctx, 2) })
		before := stream.created.Load()
		refusedStill(ctx)
		Eventually(func() int64 { return stream.created.Load() }).Should(BeNumerically(">", before+50))
		refusedStill(ctx)
	})

	It("are created while operators are killed", func(ctx SpecContext) {
		for _, victim := range operatorPods(ctx) {
			kill(ctx, &victim)
		}
		refusedStill(ctx)
		scaleOperator(ctx, 2)
	})

	It("are created again as soon as the API server is back", func(ctx SpecContext) {
		clusterTool("restart", "kube-apiserver")
		refusedStill(ctx)
	})

	It("are created again as soon as etcd is back", func(ctx SpecContext) {
		clusterTool("restart", "etcd")
		refusedStill(ctx)
	})

	It("are created when modelrights is uninstalled, and when it comes back", func(ctx SpecContext) {
		run(filepath.Join(installed.root, "_output/bin/helm"), "uninstall", "modelrights", "--namespace", operatorNamespace, "--wait", "--timeout", "2m")
		before := stream.created.Load()
		Eventually(func() int64 { return stream.created.Load() }).Should(BeNumerically(">", before+50))
		install()
		refusedStill(ctx)
	})
})

// podStream creates an ordinary pod after the other, which no node takes, and removes it again.
type podStream struct {
	created atomic.Int64
	refused atomic.Pointer[[]string]
	stop    func()
}

func startPodStream(namespace string) *podStream {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	s, done := &podStream{}, make(chan struct{})
	s.refused.Store(&[]string{})
	s.stop = func() { cancel(); <-done }
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			s.create(ctx, namespace, i)
		}
	}()
	return s
}

func (s *podStream) create(ctx context.Context, namespace string, i int) {
	pod := builders.Pod(namespace, fmt.Sprintf("ordinary-%d", i)).Container("main", "registry.example.com/tools/shell:1").Obj()
	restricted(pod)
	pod.Spec.NodeSelector = map[string]string{"modelrights-e2e": "nowhere"}
	// A webhook of ours that does not answer is an error, since its failure policy is Fail.
	switch err := api.Create(ctx, pod); {
	case err == nil:
		s.created.Add(1)
		_ = api.Delete(ctx, pod, client.GracePeriodSeconds(0))
	case strings.Contains(err.Error(), "webhook") || strings.Contains(err.Error(), "modelrights") || apierrors.IsForbidden(err):
		s.note(err.Error())
	}
	// Four or so at a time are enough; the machine has other things to do.
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
}

func (s *podStream) note(text string) {
	noted := append(append([]string{}, *s.refused.Load()...), text)
	s.refused.Store(&noted)
}

func (s *podStream) refusals() []string { return *s.refused.Load() }
