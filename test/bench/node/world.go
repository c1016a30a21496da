package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

const (
	operatorNamespace = "modelrights-system"
	namespace         = "bench-node"
	license           = "bench-node"
	account           = "llm-server"
	secretName        = "bench-node-key"
)

// world is a cluster on which modelrights is installed, with a licence for a sealed model.
type world struct {
	options
	api client.Client
	// server is an image that waits; sealed and plain are the same files, in a licensed and an ungoverned repository.
	server, sealed, plain string
}

// prepare installs the chart and a licence.
func prepare(ctx context.Context, o options) (*world, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, fmt.Errorf("reading KUBECONFIG: %w", err)
	}
	config.QPS, config.Burst = 500, 1000
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	w := &world{options: o}
	if w.api, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if _, err := command(ctx, o.helm, "upgrade", "--install", "modelrights", "charts/modelrights",
		"--namespace", operatorNamespace, "--create-namespace", "--wait", "--timeout", "4m",
		"--set", "image.registry="+o.registry, "--set", "image.tag="+o.tag, "--set", "image.pullPolicy=Always",
		"--set", "node.kubeletDir="+o.kubeletDir, "--set", "registries.plainHTTP={"+o.registry+"}"); err != nil {
		return nil, err
	}
	model := filepath.Join(o.out, "node-model")
	if _, err := command(ctx, "go", "run", "./hack/demo/model", "-out", model); err != nil {
		return nil, err
	}
	for _, image := range []struct {
		repository string
		files      []string
		into       *string
	}{
		{"bench/server", []string{"--file", "_output/image/probe:/probe", "--entrypoint", "/probe"}, &w.server},
		{"models/bench-node", []string{"--file", filepath.Join(model, "model") + ":/model"}, &w.sealed},
		{"bench/plain", []string{"--file", filepath.Join(model, "model") + ":/model"}, &w.plain},
	} {
		pushed, err := command(ctx, "go", append([]string{"run", "./hack/images", "--push", "--image", o.registry + "/" + image.repository + ":1"}, image.files...)...)
		if err != nil {
			return nil, err
		}
		*image.into = strings.TrimSpace(pushed)
	}
	key, err := os.ReadFile(filepath.Join(model, "model.key"))
	if err != nil {
		return nil, fmt.Errorf("reading the model's key: %w", err)
	}
	l := builders.License(license).Repository(o.registry + "/models/bench-node").Key("v1").Namespaces(namespace).Obj()
	l.Spec.Terms.OnRevoke = v1alpha1.RevokeWipeKey
	data := map[string][]byte{v1alpha1.DefaultSecretKey: key}
	for _, object := range []client.Object{
		builders.Namespace(namespace).Obj(),
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: l.Spec.Keys[0].SecretRef.Name}, Data: data},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: secretName}, Data: data},
		l,
	} {
		if err := w.api.Create(ctx, object); err != nil {
			return nil, fmt.Errorf("creating %T %s: %w", object, object.GetName(), err)
		}
	}
	return w, w.until(ctx, "the licence is Ready", func() (bool, error) {
		err := w.api.Get(ctx, client.ObjectKeyFromObject(l), l)
		return err == nil && meta.IsStatusConditionTrue(l.Status.Conditions, v1alpha1.ConditionReady), err
	})
}

// grant grants the licence to the account, and waits until that counts.
func (w *world) grant(ctx context.Context, name string) (*v1alpha1.ModelGrant, error) {
	g := builders.Grant(namespace, name, license).ServiceAccount(account).Obj()
	if err := w.api.Create(ctx, g); err != nil {
		return nil, fmt.Errorf("creating grant %s: %w", name, err)
	}
	return g, w.until(ctx, "the grant is Ready", func() (bool, error) {
		err := w.api.Get(ctx, client.ObjectKeyFromObject(g), g)
		return err == nil && meta.IsStatusConditionTrue(g.Status.Conditions, v1alpha1.ConditionReady), err
	})
}

// until waits for a condition; what is quick is looked at often.
func (w *world) until(ctx context.Context, what string, met func() (bool, error)) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 3*time.Minute, true, func(context.Context) (bool, error) { return met() })
	if err != nil {
		return fmt.Errorf("waiting until %s: %w", what, err)
	}
	return nil
}

// command runs a program in the root of the repository, and returns what it printed.
func command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var problem strings.Builder
	cmd.Stderr = &problem
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, problem.String())
	}
	return string(output), nil
}
