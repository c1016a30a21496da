//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// keyMounts lists the filesystems that are mounted on the node for volumes of a licence. One that is mounted upon another counts
// too; one that propagation shows twice at the same place does not.
func keyMounts(license string) []keyMount {
	GinkgoHelper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	Expect(err).NotTo(HaveOccurred())
	var mounts []keyMount
	for line := range strings.Lines(string(text)) {
		// proc_pid_mountinfo(5): the third field is the filesystem's device, the fifth the mount point, the sixth the
		// mount's options; the filesystem's own options are the last.
		fields := strings.Fields(line)
		if len(fields) < 6 || !strings.HasPrefix(fields[4], filepath.Join(installed.kubeletDir, "pods")+"/") ||
			!strings.HasSuffix(fields[4], "/volumes/kubernetes.io~csi/"+v1alpha1.VolumeNamePrefix+license+"/mount") {
			continue
		}
		mount := keyMount{path: fields[4], device: fields[2], options: fields[5] + "," + fields[len(fields)-1]}
		if !slices.Contains(mounts, mount) {
			mounts = append(mounts, mount)
		}
	}
	return mounts
}

// keyMount is a mount of our driver's on the node.
type keyMount struct{ path, device, options string }

// keyMountsOf lists those of one pod.
func keyMountsOf(pod *corev1.Pod, license string) []keyMount {
	GinkgoHelper()
	return slices.DeleteFunc(keyMounts(license), func(m keyMount) bool { return !strings.Contains(m.path, string(pod.UID)) })
}

// clusterTool runs a command of hack/cluster.
func clusterTool(args ...string) {
	GinkgoHelper()
	run(filepath.Join(installed.root, "_output/bin/cluster"), args...)
}

// driverPod returns the one pod of the node driver, once it is ready.
func driverPod(ctx context.Context, not ...string) *corev1.Pod {
	GinkgoHelper()
	var driver *corev1.Pod
	Eventually(func(g Gomega) {
		var pods corev1.PodList
		g.Expect(api.List(ctx, &pods, client.InNamespace(driverNamespace))).To(Succeed())
		g.Expect(pods.Items).To(HaveLen(1))
		g.Expect(isReady(&pods.Items[0])).To(BeTrue())
		g.Expect(not).NotTo(ContainElement(string(pods.Items[0].UID)))
		driver = &pods.Items[0]
	}).Should(Succeed())
	return driver
}

// operatorPods returns the pods of the operator that are ready and not ending.
func operatorPods(ctx context.Context) []corev1.Pod {
	GinkgoHelper()
	var pods corev1.PodList
	Expect(api.List(ctx, &pods, client.InNamespace(operatorNamespace))).To(Succeed())
	var ready []corev1.Pod
	for _, pod := range pods.Items {
		if isReady(&pod) && pod.DeletionTimestamp == nil {
			ready = append(ready, pod)
		}
	}
	return ready
}

// scaleOperator sets the number of operators and waits until there are as many, and no others.
func scaleOperator(ctx context.Context, replicas int32) {
	GinkgoHelper()
	deployment := &appsv1.Deployment{}
	deployment.Namespace, deployment.Name = operatorNamespace, "modelrights-operator"
	Expect(api.Get(ctx, client.ObjectKeyFromObject(deployment), deployment)).To(Succeed())
	patch := client.MergeFrom(deployment.DeepCopy())
	deployment.Spec.Replicas = &replicas
	Expect(api.Patch(ctx, deployment, patch)).To(Succeed())
	Eventually(func(g Gomega) {
		var pods corev1.PodList
		g.Expect(api.List(ctx, &pods, client.InNamespace(operatorNamespace))).To(Succeed())
		g.Expect(pods.Items).To(HaveLen(int(replicas)))
		g.Expect(operatorPods(ctx)).To(HaveLen(int(replicas)))
	}).Should(Succeed())
}
