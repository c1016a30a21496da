// Package integration tests the parts of modelrights against a real API server: that of the newest supported Kubernetes
// and that of the oldest, as KUBEBUILDER_ASSETS says. Run it with make test-integration.
package integration

import (
	"os"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// specTimeout is how long a spec, or the set-up of a container, may take. Like the minute that Eventually waits, it ends what
// hangs and asserts nothing: machines on which the suite runs may be many times slower than those on which it was written.
const specTimeout = 5 * time.Minute

// The API server that specs share, with the CRDs and nothing else of ours. A spec that needs webhooks, policies or
// running controllers starts one of its own with startEnvironment.
var (
	cfg        *rest.Config
	k8sClient  client.Client
	testScheme = runtime.NewScheme()
)

func TestIntegration(t *testing.T) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: it names the directory with kube-apiserver and etcd; run make test-integration")
	}
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	RunSpecs(t, "Integration")
}

var _ = BeforeSuite(func() {
	ctrl.SetLogger(GinkgoLogr)
	Expect(clientgoscheme.AddToScheme(testScheme)).To(Succeed())
	Expect(v1alpha1.AddToScheme(testScheme)).To(Succeed())
	env := &envtest.Environment{}
	cfg = startEnvironment(env)
	DeferCleanup(env.Stop)
	var err error
	k8sClient, err = client.New(cfg, client.Options{Scheme: testScheme})
	Expect(err).NotTo(HaveOccurred())
})

// startEnvironment starts an API server with the CRDs. The caller stops it.
func startEnvironment(env *envtest.Environment) *rest.Config {
	GinkgoHelper()
	env.CRDDirectoryPaths = append(env.CRDDirectoryPaths, "../../config/crd/bases")
	env.ErrorIfCRDPathMissing = true
	env.Scheme = testScheme
	config, err := env.Start()
	Expect(err).NotTo(HaveOccurred(), "starting the API server of KUBEBUILDER_ASSETS=%s", os.Getenv("KUBEBUILDER_ASSETS"))
	return config
}
