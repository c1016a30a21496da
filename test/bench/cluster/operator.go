package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/test/bench/gauge"
)

// Operator is the operator's binary, run as its Deployment would: with its arguments, environment and service account.
type Operator struct {
	process *exec.Cmd
	// ended is closed when the process has ended, for the reason in exit.
	ended   chan struct{}
	exit    error
	metrics string
	probes  string
	pprof   string
	http    *http.Client
	// KeyService is the address of the key service on the loopback interface, so that clients may come from any of that
	// interface's addresses.
	KeyService string
}

// Ports of the operator, each a free one.
type Ports struct{ webhook, keyService, metrics, probes, pprof int32 }

// BuildOperator builds the binary as make images does.
func BuildOperator(ctx context.Context, root, dir string) (string, error) {
	binary := filepath.Join(dir, "modelrights-operator")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/modelrights-operator")
	build.Dir, build.Stdout, build.Stderr = root, os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("building the operator: %w", err)
	}
	return binary, nil
}

// InstallOperator creates what is installed in a cluster but for the Deployments, and the operator's ports as endpoints.
func InstallOperator(ctx context.Context, p *ControlPlane, root string, ports Ports) error {
	var paths []string
	for _, path := range []string{
		"manager/namespace.yaml", "manager/serviceaccount.yaml", "node/namespace.yaml", "node/csidriver.yaml", "rbac", "policy", "webhook",
	} {
		paths = append(paths, filepath.Join(root, "config", path))
	}
	if err := p.Apply(ctx, paths...); err != nil {
		return err
	}
	if err := p.Service(ctx, OperatorNamespace, "modelrights-webhook", "webhook", ports.webhook); err != nil {
		return err
	}
	return p.Service(ctx, OperatorNamespace, "modelrights-keyservice", "keyservice", ports.keyService)
}

// StartOperator starts the binary, with the arguments of its Deployment and some more, and waits until it is ready.
func StartOperator(ctx context.Context, p *ControlPlane, root, dir, binary string, ports Ports, extra ...string) (*Operator, error) {
	container, err := deployedContainer(filepath.Join(root, "config/manager/deployment.yaml"))
	if err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(dir, "operator.kubeconfig")
	if err := writeKubeconfig(ctx, p, kubeconfig); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "operator.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the process has its own descriptor
	var args []string
	for _, arg := range container.Args {
		args = append(args, strings.ReplaceAll(arg, "$(POD_NAMESPACE)", OperatorNamespace))
	}
	args = append(args,
		fmt.Sprintf("--webhook-port=%d", ports.webhook),
		fmt.Sprintf("--key-service-port=%d", ports.keyService),
		fmt.Sprintf("--metrics-bind-address=127.0.0.1:%d", ports.metrics),
		fmt.Sprintf("--health-probe-bind-address=127.0.0.1:%d", ports.probes),
		fmt.Sprintf("--pprof-bind-address=127.0.0.1:%d", ports.pprof),
		"--governed-repository="+Governed,
	)
	args = append(args, extra...)
	process := exec.Command(binary, args...)
	limit := container.Resources.Limits.Memory().Value()
	process.Env = []string{
		"KUBECONFIG=" + kubeconfig, "HOME=" + dir, "PATH=" + os.Getenv("PATH"),
		"POD_NAME=modelrights-operator-bench", "POD_NAMESPACE=" + OperatorNamespace,
		"MEMORY_LIMIT_BYTES=" + strconv.FormatInt(limit, 10),
	}
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("starting the operator: %w", err)
	}
	o := &Operator{
		process: process, ended: make(chan struct{}),
		metrics:    fmt.Sprintf("http://127.0.0.1:%d/metrics", ports.metrics),
		probes:     fmt.Sprintf("http://127.0.0.1:%d/readyz", ports.probes),
		pprof:      fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/", ports.pprof),
		http:       http.DefaultClient,
		KeyService: fmt.Sprintf("127.0.0.1:%d", ports.keyService),
	}
	go func() {
		o.exit = process.Wait()
		close(o.ended)
	}()
	if err := o.waitReady(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("the operator does not become ready, see %s: %w", log.Name(), err), o.Stop())
	}
	return o, nil
}

// deployedContainer is the operator's in the Deployment.
func deployedContainer(path string) (*corev1.Container, error) {
	objects, err := Manifests(path)
	if err != nil {
		return nil, err
	}
	var deployment appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(objects[0].Object, &deployment); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &deployment.Spec.Template.Spec.Containers[0], nil
}

// writeKubeconfig writes one with a token of the operator's service account, so that RBAC holds for it as in a cluster.
func writeKubeconfig(ctx context.Context, p *ControlPlane, path string) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: "modelrights-operator"}}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(4 * 3600))}}
	if err := p.Client.SubResource("token").Create(ctx, account, request); err != nil {
		return fmt.Errorf("token of the operator: %w", err)
	}
	const name = "bench"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: HostOf(p.Config), CertificateAuthorityData: p.Config.CAData}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: request.Status.Token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, path)
}

// PID is the process's ID.
func (o *Operator) PID() int { return o.process.Process.Pid }

// Stop asks the process to end, and ends it if it does not.
func (o *Operator) Stop() error {
	if err := o.process.Process.Signal(syscall.SIGTERM); err != nil {
		return nil //nolint:nilerr // it has ended already
	}
	select {
	case <-o.ended:
		return nil
	case <-time.After(30 * time.Second):
		return o.process.Process.Kill()
	}
}

func (o *Operator) waitReady(ctx context.Context) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		select {
		case <-o.ended:
			return false, fmt.Errorf("it ended: %w", o.exit)
		default:
		}
		_, last = Get(ctx, http.DefaultClient, o.probes)
		return last == nil, nil
	})
	return errors.Join(err, last)
}

// Scrape reads the operator's metrics.
func (o *Operator) Scrape(ctx context.Context) (gauge.Scrape, error) {
	text, err := Get(ctx, http.DefaultClient, o.metrics)
	if err != nil {
		return nil, fmt.Errorf("metrics of the operator: %w", err)
	}
	return gauge.ParseMetrics(text)
}

// Get reads a page; a status other than 200 is an error that quotes it.
func Get(ctx context.Context, c *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := c.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", url, response.Status, body)
	}
	return string(body), nil
}

// FreePorts are ports on which nobody listens.
func FreePorts(address string) (Ports, error) {
	var ports Ports
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close() //nolint:errcheck // it listened for nobody
		}
	}()
	for _, port := range []*int32{&ports.webhook, &ports.keyService, &ports.metrics, &ports.probes, &ports.pprof} {
		l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			return Ports{}, err
		}
		held = append(held, l)
		*port = int32(l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
