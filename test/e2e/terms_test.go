//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/test/builders"
)

// pods limits a licence to so many.
func pods(n int) func(*v1alpha1.ModelLicense) {
	return func(l *v1alpha1.ModelLicense) {
		l.Spec.Terms.Limits = corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(int64(n), resource.DecimalSI)}
	}
}

func lease(d time.Duration) func(*v1alpha1.ModelLicense) {
	return func(l *v1alpha1.ModelLicense) { l.Spec.Terms.LeaseDuration = &metav1.Duration{Duration: d} }
}

func onRevoke(p v1alpha1.RevocationPolicy) func(*v1alpha1.ModelLicense) {
	return func(l *v1alpha1.ModelLicense) { l.Spec.Terms.OnRevoke = p }
}

var _ = Describe("Seats on a real node", func() {
	It("are given to as many pods as there are, and to the next in line when one ends", func(ctx SpecContext) {
		t := newEntitledTenant(ctx, pods(2))
		one, two := create(ctx, t.probe("one")), create(ctx, t.probe("two"))
		ready(ctx, one)
		ready(ctx, two)
		three := create(ctx, t.probe("three"))
		Eventually(func() string { return licensedReason(ctx, three) }).Should(Equal("WaitingForSeat"))
		Expect(three.Spec.SchedulingGates).To(ContainElement(HaveField("Name", v1alpha1.SeatGate)))
		Eventually(func(g Gomega) {
			var license v1alpha1.ModelLicense
			g.Expect(api.Get(ctx, client.ObjectKey{Name: t.license}, &license)).To(Succeed())
			g.Expect(license.Status.Seats).NotTo(BeNil())
			g.Expect(license.Status.Seats.Summary).To(Equal("2/2"))
			g.Expect(license.Status.Seats.Waiting).To(Equal(int32(1)))
		}).Should(Succeed())
		started := time.Now()
		remove(ctx, one)
		ready(ctx, three)
		AddReportEntry("next in line", fmt.Sprintf("ready %.1f s after the deletion of another was asked for", time.Since(started).Seconds()))
		Eventually(func() []audit.Entry { return entries(ctx, of(audit.SeatEnded, t.namespace)) }).
			Should(ConsistOf(And(HaveField("Pod.UID", string(one.UID)), HaveField("Seconds", BeNumerically(">", 0)))))
	})

	It("are free again when a Job's pods have completed", func(ctx SpecContext) {
		t := newEntitledTenant(ctx, pods(1))
		pod := t.probe("template")
		pod.Spec.Containers = pod.Spec.Containers[:1]
		pod.Spec.Containers[0].Args = []string{"-once"}
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		job := &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Name: "batch"},
			Spec: batchv1.JobSpec{
				Completions: ptr.To(int32(3)), Parallelism: ptr.To(int32(3)),
				Template: corev1.PodTemplateSpec{Spec: pod.Spec},
			},
		}
		Expect(api.Create(ctx, job)).To(Succeed())
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, client.ObjectKeyFromObject(job), job)).To(Succeed())
			g.Expect(job.Status.Succeeded).To(Equal(int32(3)))
		}).Should(Succeed())
		Expect(entries(ctx, of(audit.KeyReleased, t.namespace))).To(HaveLen(3))
	})

	It("stay with a pod that was deleted by force while its container runs", func(ctx SpecContext) {
		t := newEntitledTenant(ctx, pods(1))
		first := ready(ctx, create(ctx, t.probe("first")))
		second := create(ctx, t.probe("second"))
		Eventually(func() string { return licensedReason(ctx, second) }).Should(Equal("WaitingForSeat"))
		By("stopping kubelet, so that nothing ends the container")
		kubelet := processOf("kubelet")
		Expect(syscall.Kill(kubelet, syscall.SIGSTOP)).To(Succeed())
		resume := sync.OnceFunc(func() { _ = syscall.Kill(kubelet, syscall.SIGCONT) })
		DeferCleanup(resume)
		kill(ctx, first)
		Eventually(func() bool { return api.Get(ctx, client.ObjectKeyFromObject(first), first.DeepCopy()) != nil }).Should(BeTrue())
		Consistently(func() string { return licensedReason(ctx, second) }).WithTimeout(10 * time.Second).Should(Equal("WaitingForSeat"))
		Expect(keyMountsOf(first, t.license)).To(HaveLen(1), "the container still has its key")
		By("letting kubelet go on: it ends the container, and the driver reports it")
		resume()
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, client.ObjectKeyFromObject(second), second)).To(Succeed())
			g.Expect(isReady(second)).To(BeTrue(), summary(second))
		}).Should(Succeed())
		Expect(keyMountsOf(first, t.license)).To(BeEmpty())
	})

	It("allow a rollout beyond the limits by surge, and end within them", func(ctx SpecContext) {
		t := newEntitledTenant(ctx, pods(2), func(l *v1alpha1.ModelLicense) {
			l.Spec.Terms.Surge = &v1alpha1.SurgeAllowance{Pods: 1, Period: &metav1.Duration{Duration: 5 * time.Minute}}
		})
		deployment := t.deployment("llm")
		deployment.Spec.Replicas = ptr.To(int32(2))
		deployment.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxSurge: ptr.To(intstr.FromInt32(1)), MaxUnavailable: ptr.To(intstr.FromInt32(0)),
		}}
		Expect(api.Create(ctx, deployment)).To(Succeed())
		rolledOut := func() {
			GinkgoHelper()
			Eventually(func(g Gomega) {
				g.Expect(api.Get(ctx, client.ObjectKeyFromObject(deployment), deployment)).To(Succeed())
				g.Expect(deployment.Status.ObservedGeneration).To(Equal(deployment.Generation))
				g.Expect(deployment.Status.UpdatedReplicas).To(Equal(int32(2)))
				g.Expect(deployment.Status.Replicas).To(Equal(int32(2)))
				g.Expect(deployment.Status.AvailableReplicas).To(Equal(int32(2)))
			}).Should(Succeed())
		}
		rolledOut()
		before := client.MergeFrom(deployment.DeepCopy())
		deployment.Spec.Template.Annotations = map[string]string{"rolled": "out"}
		Expect(api.Patch(ctx, deployment, before)).To(Succeed())
		rolledOut()
		Eventually(func(g Gomega) {
			var license v1alpha1.ModelLicense
			g.Expect(api.Get(ctx, client.ObjectKey{Name: t.license}, &license)).To(Succeed())
			g.Expect(license.Status.Seats.Summary).To(Equal("2/2"))
			g.Expect(license.Status.Seats.BeyondLimits).To(BeZero())
		}).Should(Succeed())
	})
})

var _ = Describe("Revocation on a real node", func() {
	It("wipes the keys of all pods of a deleted grant, in place, and leaves them running where the licence says so", func(ctx SpecContext) {
		t := newEntitledTenant(ctx, onRevoke(v1alpha1.RevokeWipeKey))
		var running []*corev1.Pod
		for i := range 5 {
			running = append(running, create(ctx, t.probe(fmt.Sprintf("p-%d", i))))
		}
		files := map[string]string{}
		for _, pod := range running {
			ready(ctx, pod)
			files[pod.Name] = filepath.Join(keyMountsOf(pod, t.license)[0].path, v1alpha1.KeyFileName)
		}
		wiped := make(chan time.Duration, len(files))
		started := time.Now()
		for _, file := range files {
			go func() { wiped <- untilEmpty(ctx, file, started) }()
		}
		Expect(api.Delete(ctx, builders.Grant(t.namespace, "chat", t.license).Obj())).To(Succeed())
		var took []time.Duration
		for range files {
			var one time.Duration
			Eventually(wiped).Should(Receive(&one))
			took = append(took, one)
		}
		slices.Sort(took)
		AddReportEntry("revocation", fmt.Sprintf("from the deletion of the grant to the wiped key: first %s, last %s of %d", took[0].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), len(took)))
		for _, pod := range running {
			Expect(keySeen(look(ctx, pod, "8080"))).To(Equal(hash(nil)), "the container sees an empty file")
			Eventually(func() string { return licensedReason(ctx, pod) }).Should(Equal("Revoked"))
			Expect(isReady(pod)).To(BeTrue())
		}
		Eventually(func() int { return len(entries(ctx, of(audit.KeyWiped, t.namespace))) }).Should(Equal(len(running)))

		By("granting anew: the keys come back, in place")
		Expect(api.Create(ctx, builders.Grant(t.namespace, "again", t.license).ServiceAccount(account).Obj())).To(Succeed())
		for _, pod := range running {
			Eventually(func() bool { return holdsKey(ctx, pod) }).WithPolling(time.Second).Should(BeTrue())
			Eventually(func() string { return licensedReason(ctx, pod) }).Should(Equal("Entitled"))
		}
	})

	It("ends the pods of a suspended licence, and a deleted one's", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pod := ready(ctx, create(ctx, t.probe("probe")))
		var license v1alpha1.ModelLicense
		Expect(api.Get(ctx, client.ObjectKey{Name: t.license}, &license)).To(Succeed())
		suspend := func(value string) {
			Expect(api.Patch(ctx, &license, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"suspended":`+value+`}}`)))).To(Succeed())
		}
		suspend("true")
		Eventually(func() bool { return api.Get(ctx, client.ObjectKeyFromObject(pod), pod.DeepCopy()) != nil }).Should(BeTrue())
		Expect(api.Create(ctx, t.probe("refused"))).To(MatchError(ContainSubstring("Suspended")))
		suspend("false")
		Eventually(func() error { return api.Create(ctx, t.probe("second")) }).Should(Succeed())
		second := ready(ctx, t.probe("second"))
		Expect(api.Delete(ctx, &license)).To(Succeed())
		Eventually(func() bool { return api.Get(ctx, client.ObjectKeyFromObject(second), second.DeepCopy()) != nil }).Should(BeTrue())
		Eventually(func() error {
			return client.IgnoreNotFound(api.Get(ctx, client.ObjectKey{Name: t.license}, &v1alpha1.ModelLicense{}))
		}).Should(Succeed())
		Eventually(func() bool { return api.Get(ctx, client.ObjectKey{Name: t.license}, &v1alpha1.ModelSeats{}) != nil }).
			Should(BeTrue(), "the ledger goes with the last pod")
	})

	It("is bound by the lease where the node is cut off, and comes no earlier", func(ctx SpecContext) {
		// The pod must not end by itself, which would take its key along.
		t := newEntitledTenant(ctx, lease(time.Minute), onRevoke(v1alpha1.RevokeWipeKey))
		other := newEntitledTenant(ctx, lease(10*time.Minute))
		created := time.Now()
		pod, kept := ready(ctx, create(ctx, t.probe("short"))), ready(ctx, create(ctx, other.probe("long")))
		file := filepath.Join(keyMountsOf(pod, t.license)[0].path, v1alpha1.KeyFileName)
		keptFile := filepath.Join(keyMountsOf(kept, other.license)[0].path, v1alpha1.KeyFileName)
		cutOff(ctx, driverPod(ctx))
		started := time.Now()
		Expect(api.Delete(ctx, builders.Grant(t.namespace, "chat", t.license).Obj())).To(Succeed())
		var took time.Duration
		done := make(chan time.Duration, 1)
		go func() { done <- untilEmpty(ctx, file, started) }()
		Eventually(done).Should(Receive(&took))
		AddReportEntry("cut off", fmt.Sprintf("the key was wiped %s after the cut, with a lease of 1m", took.Round(time.Second)))
		Expect(took).To(BeNumerically("<=", time.Minute+30*time.Second), "neither the driver nor this spec may be that slow")
		Expect(started.Add(took)).To(BeTemporally(">=", created.Add(time.Minute)), "the driver was not cut off")
		Expect(size(keptFile)).To(BeNumerically(">", 0), "a longer lease is not over")
	})

	It("leaves keys alone while the operator is away for less than the lease, and wipes them after it", func(ctx SpecContext) {
		t := newEntitledTenant(ctx, lease(time.Minute))
		created := time.Now()
		pod := ready(ctx, create(ctx, t.probe("probe")))
		file := filepath.Join(keyMountsOf(pod, t.license)[0].path, v1alpha1.KeyFileName)
		scaleOperator(ctx, 0)
		DeferCleanup(func(ctx SpecContext) { scaleOperator(ctx, 2) })
		away := time.Now()
		restartDriver(ctx)
		// The lease began after the pod was created. What it took to get here must not matter.
		early := func() bool { return size(file) == 0 && time.Since(created) < time.Minute }
		Consistently(early).WithTimeout(20 * time.Second).Should(BeFalse())
		Eventually(func() int64 { return size(file) }).Should(BeZero())
		AddReportEntry("operator away", fmt.Sprintf("the key was wiped %s after the operator went, with a lease of 1m and a driver restarted meanwhile", time.Since(away).Round(time.Second)))
		Expect(isReady(pod)).To(BeTrue())
		By("bringing the operator back: the key is released anew, and the pod is still the same")
		scaleOperator(ctx, 2)
		Eventually(func() bool { return holdsKey(ctx, pod) }).WithPolling(time.Second).Should(BeTrue())
	})
})

var _ = Describe("Interactive access to a pod that holds a key", func() {
	It("is recorded, and refused where the licence denies it", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pod := ready(ctx, create(ctx, t.probe("probe")))
		probe := func() error {
			_, err := kubectl("-n", t.namespace, "exec", pod.Name, "-c", "main", "--", "/probe", "-once")
			return err
		}
		Expect(probe()).To(Succeed())
		Eventually(func() []audit.Entry { return entries(ctx, of(audit.Exec, t.namespace)) }).Should(HaveLen(1))

		var license v1alpha1.ModelLicense
		Expect(api.Get(ctx, client.ObjectKey{Name: t.license}, &license)).To(Succeed())
		Expect(api.Patch(ctx, &license, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"terms":{"exec":"Deny"}}}`)))).To(Succeed())
		Eventually(probe).Should(MatchError(ContainSubstring("ExecDenied")))
		Expect(isReady(pod)).To(BeTrue())
	})
})

// licensedReason is the reason of the pod's condition; the pod is read anew.
func licensedReason(ctx context.Context, pod *corev1.Pod) string {
	GinkgoHelper()
	Expect(api.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	for _, condition := range pod.Status.Conditions {
		if condition.Type == v1alpha1.PodConditionLicensed {
			return condition.Reason
		}
	}
	return ""
}

// untilEmpty waits until a file is empty or gone, and says how long that took.
func untilEmpty(ctx context.Context, file string, since time.Time) time.Duration {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && size(file) > 0 {
		<-tick.C
	}
	return time.Since(since)
}

// size is the size of a file; 0 where there is none.
func size(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}

// processOf is the ID of the cluster's process of that name.
func processOf(name string) int {
	GinkgoHelper()
	matches, err := filepath.Glob("/proc/[0-9]*/cmdline")
	Expect(err).NotTo(HaveOccurred())
	for _, match := range matches {
		line, err := os.ReadFile(match)
		if err != nil {
			continue // it has ended
		}
		program, _, _ := bytes.Cut(line, []byte{0})
		if filepath.Base(string(program)) == name && strings.Contains(string(line), installed.kubeletDir) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(match)))
			Expect(err).NotTo(HaveOccurred())
			return pid
		}
	}
	Fail("there is no process " + name)
	return 0
}

// cutOff drops what a pod sends to services by TLS, the key service among them, until the spec ends. Probes of the pod are
// answered still.
func cutOff(ctx context.Context, pod *corev1.Pod) {
	GinkgoHelper()
	nft := func(rules string) error {
		command := exec.CommandContext(ctx, "nft", "-f", "-")
		command.Stdin = strings.NewReader(rules)
		output, err := command.CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft: %w: %s", err, output)
		}
		return nil
	}
	Expect(nft(fmt.Sprintf("table inet modelrights-e2e { chain cut { type filter hook prerouting priority -400; ip saddr %s tcp dport 443 drop; }; }", pod.Status.PodIP))).To(Succeed())
	DeferCleanup(func() {
		output, err := exec.Command("nft", "delete", "table", "inet", "modelrights-e2e").CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), string(output))
	})
}
