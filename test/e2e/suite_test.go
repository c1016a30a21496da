//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
)

const (
	operatorNamespace = "modelrights-system"
	driverNamespace   = "modelrights-node"
)

var (
	// api reads and writes objects without a cache, clientset does what api cannot, as an administrator.
	api       client.Client
	clientset kubernetes.Interface
	// installed is what the cluster's tool says of the cluster, and the images that the suite built.
	installed setup
)

func TestE2E(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(3 * time.Minute) // which ends what hangs, and asserts nothing
	SetDefaultEventuallyPollingInterval(250 * time.Millisecond)
	SetDefaultConsistentlyDuration(5 * time.Second)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "modelrights on a real cluster")
}

var _ = BeforeSuite(func(_ SpecContext) {
	installed = readSetup()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	Expect(err).NotTo(HaveOccurred())
	config.QPS, config.Burst = 200, 400
	connect(config)
	By("making a sealed model, and images of it and of the suite's own pods")
	installed.buildImages()
	By("installing the chart")
	install()
}, NodeTimeout(15*time.Minute))

func connect(config *rest.Config) {
	scheme := runtime.NewScheme()
	Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	var err error
	api, err = client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	clientset, err = kubernetes.NewForConfig(config)
	Expect(err).NotTo(HaveOccurred())
}

// Where a spec fails, the logs of both of our programs are shown with it.
var _ = ReportAfterEach(func(report SpecReport) {
	if !report.Failed() {
		return
	}
	for _, source := range [][]string{
		{"-n", operatorNamespace, "logs", "deployment/modelrights-operator", "--all-pods", "--tail=60"},
		{"-n", driverNamespace, "logs", "daemonset/modelrights-node", "--tail=40"},
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "events", "-A", "--sort-by=.metadata.creationTimestamp"},
	} {
		text, err := kubectl(source...)
		GinkgoWriter.Printf("\n$ kubectl %v\n%s%v\n", source, text, err)
	}
	logs := os.Getenv("CLUSTER_LOGS")
	GinkgoWriter.Printf("The logs of the cluster itself are in %s; cluster-down moves them to %s-logs.\n", logs, filepath.Dir(logs))
})
