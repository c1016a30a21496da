// Package cluster is an API server with its etcd and the operator, without nodes, for benchmarks.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// ControlPlane is an API server with its etcd, each a process of its own.
type ControlPlane struct {
	environment *envtest.Environment
	// Config and Client are those of a cluster-admin.
	Config *rest.Config
	Client client.Client
	// Address is the machine's, at which the API server reaches webhooks: it refuses endpoints on the loopback interface.
	Address string
}

// Start starts them from the binaries in assets, with the CRDs and the logs in dir. The API server resolves
// Services by itself (--enable-aggregator-routing), so that webhook configurations are as in a cluster. Etcd syncs to
// the disk, as in a cluster. Flags are some more of the API server, NAME=VALUE each.
func Start(root, assets, dir string, flags ...string) (*ControlPlane, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	address, err := ownAddress()
	if err != nil {
		return nil, err
	}
	environment := &envtest.Environment{
		Scheme:                   scheme,
		BinaryAssetsDirectory:    assets,
		ControlPlaneStartTimeout: time.Minute,
		ControlPlaneStopTimeout:  time.Minute,
		CRDDirectoryPaths:        []string{filepath.Join(root, "config/crd/bases")},
		ErrorIfCRDPathMissing:    true,
	}
	server, store := environment.ControlPlane.GetAPIServer(), &envtest.Etcd{}
	environment.ControlPlane.Etcd = store
	server.Configure().Set("enable-aggregator-routing", "true").Set("delete-collection-workers", "4")
	for _, flag := range flags {
		name, value, _ := strings.Cut(flag, "=")
		server.Configure().Set(name, value)
	}
	store.Configure().Set("unsafe-no-fsync", "false").Set("quota-backend-bytes", "4294967296")
	for name, outputs := range map[string][]*io.Writer{"kube-apiserver.log": {&server.Out, &server.Err}, "etcd.log": {&store.Out, &store.Err}} {
		log, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("log of the control plane: %w", err)
		}
		for _, output := range outputs {
			*output = log
		}
	}
	config, err := environment.Start()
	if err != nil {
		return nil, fmt.Errorf("starting the API server and etcd of %s: %w", assets, errors.Join(err, environment.Stop()))
	}
	config.QPS = -1
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, errors.Join(err, environment.Stop())
	}
	return &ControlPlane{environment: environment, Config: config, Client: c, Address: address}, nil
}

// Stop ends both.
func (p *ControlPlane) Stop() error { return p.environment.Stop() }

// Profile is what the API server answers to a question of net/http/pprof, for example profile?seconds=8.
func (p *ControlPlane) Profile(ctx context.Context, query string) ([]byte, error) {
	c, err := rest.HTTPClientFor(p.Config)
	if err != nil {
		return nil, err
	}
	content, err := Get(ctx, c, strings.TrimSuffix(p.Config.Host, "/")+"/debug/pprof/"+query)
	if err != nil {
		return nil, fmt.Errorf("profile of the API server: %w", err)
	}
	return []byte(content), nil
}

// ownAddress is an address of this machine that is not on the loopback interface. Nothing that is sent to it leaves the
// machine.
func ownAddress() (string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() && !ip.IP.IsLinkLocalUnicast() {
			return ip.IP.String(), nil
		}
	}
	return "", errors.New("this machine has no IPv4 address but that of the loopback interface, at which the API server calls no webhook")
}

// FreePort is a TCP port on which nobody listens.
func FreePort(address string) (int32, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return 0, err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return int32(port), listener.Close()
}

// Service makes a Service whose only endpoint is a port of this machine.
func (p *ControlPlane) Service(ctx context.Context, namespace, name, portName string, port int32) error {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: portName, Port: 443}}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{p.Address}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(portName), Port: ptr.To(port), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	return p.Create(ctx, service, slice)
}

// Create creates objects that are not there yet.
func (p *ControlPlane) Create(ctx context.Context, objects ...client.Object) error {
	for _, o := range objects {
		if err := p.Client.Create(ctx, o); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating %T %s: %w", o, client.ObjectKeyFromObject(o), err)
		}
	}
	return nil
}

// Apply creates what files of config/ hold.
func (p *ControlPlane) Apply(ctx context.Context, paths ...string) error {
	for _, path := range paths {
		objects, err := Manifests(path)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := p.Create(ctx, o); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return nil
}

// Manifests reads a file, or the files of a directory.
func Manifests(path string) ([]*unstructured.Unstructured, error) {
	paths := []string{path}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.IsDir() {
		if paths, err = filepath.Glob(filepath.Join(path, "*.yaml")); err != nil {
			return nil, err
		}
	}
	var found []*unstructured.Unstructured
	for _, path := range paths {
		if filepath.Base(path) == "kustomization.yaml" {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
		for {
			object := &unstructured.Unstructured{}
			if err := decoder.Decode(object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			if len(object.Object) > 0 {
				found = append(found, object)
			}
		}
	}
	return found, nil
}
