package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// This file holds the steps that show how one might walk around admission, and what comes of it.

func (d *demo) deploymentElsewhere() error {
	v := d.values
	v.Namespace = "demo-ml-dev"
	return d.apply("deployment.yaml", v).refused("NoGrant", licence)
}

func (d *demo) argument() error {
	v := d.values
	v.Namespace = "demo-ml-dev"
	return d.apply("pod-argument.yaml", v).refused("NoGrant", licence)
}

func (d *demo) imageID() error {
	v := d.values
	v.Namespace, v.Account, v.Image = "demo-ml-prod", "llm-server", "sha256:0123456789ab"
	return d.apply("pod-model-image.yaml", v).refused("ImageID")
}

// copied pushes an image that is built from the model's, under a name that nobody governs.
func (d *demo) copied() error {
	v := d.values
	pushed := d.run("go", "run", "./hack/images", "--image", d.registry+"/tools/innocent:1.0",
		"--file", filepath.Join(d.out, "model")+":/model", "--file", "_output/image/inference:/inference", "--entrypoint", "/inference", "--push")
	if err := pushed.must(); err != nil {
		return err
	}
	v.Namespace, v.Image = "demo-ml-dev", strings.TrimSpace(pushed.stdout)
	if err := d.apply("pod-copy.yaml", v).must(); err != nil {
		return err
	}
	return d.eventually(2*time.Minute, []string{"CopyDetected", licence},
		"kubectl", "-n", "demo-ml-dev", "get", "events", "--field-selector=involvedObject.name=innocent,reportingComponent=modelrights-operator")
}

// explain asks the plugin, which exits with 1 where something is refused.
func (d *demo) explain() error {
	var text strings.Builder
	v := d.values
	v.Namespace, v.Account, v.Image = "demo-ml-dev", "llm-server", d.values.Model
	if err := manifests.ExecuteTemplate(&text, "pod-model-image.yaml", v); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	return d.runWith(text.String(), "kubectl", "modelrights", "explain", "-f", "-").refused("NoGrant", licence)
}

// outage ends every operator: pods that name no model are none of its business, others are refused.
func (d *demo) outage() error {
	deployment := []string{"kubectl", "-n", operatorNamespace, "get", "deployment", "modelrights-operator", "-o", "json"}
	var found struct {
		Spec struct {
			Replicas int `json:"replicas"`
		} `json:"spec"`
	}
	if err := json.Unmarshal([]byte(d.quietly("", deployment...).stdout), &found); err != nil {
		return fmt.Errorf("read the operator's Deployment: %w", err)
	}
	scale := func(replicas int) error {
		return d.run("kubectl", "-n", operatorNamespace, "scale", "deployment/modelrights-operator", fmt.Sprintf("--replicas=%d", replicas)).must()
	}
	if err := scale(0); err != nil {
		return err
	}
	shown := d.withoutOperator()
	if err := scale(found.Spec.Replicas); err != nil {
		return err
	}
	if err := d.run("kubectl", "-n", operatorNamespace, "rollout", "status", "deployment/modelrights-operator", "--timeout=2m").must(); err != nil {
		return err
	}
	return shown
}

func (d *demo) withoutOperator() error {
	if err := d.run("kubectl", "-n", operatorNamespace, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=operator", "--timeout=60s").must(); err != nil {
		return err
	}
	if err := d.run("kubectl", "-n", "demo-ml-dev", "delete", "pod", "ordinary", "--ignore-not-found", "--wait", "--timeout=60s").must(); err != nil {
		return err
	}
	if err := d.apply("pod-ordinary.yaml", d.values).must(); err != nil {
		return fmt.Errorf("an ordinary pod waits for the operator: %w", err)
	}
	fmt.Fprintln(d.screen, "(What comes now is the API server's own text: nobody is there to give a better one.)")
	v := d.values
	v.Namespace, v.Account, v.Image = "demo-ml-dev", "default", d.values.Model
	return d.apply("pod-model-image.yaml", v).refused("modelrights.dev")
}
