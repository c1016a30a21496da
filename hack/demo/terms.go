package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// This file holds the steps that show how terms hold for a pod's whole life.

const (
	seatsLicence = "demo-seats"
	shortLicence = "demo-short"
	// shortLife is how long the licence lasts that expires during the demo: enough for a pod to start under it.
	shortLife = 20 * time.Second
	// licensed is the pod's condition, for jsonpath.
	licensed = `jsonpath={.status.conditions[?(@.type=="` + string(v1alpha1.PodConditionLicensed) + `")].reason}: {.status.conditions[?(@.type=="` + string(v1alpha1.PodConditionLicensed) + `")].message}{"\n"}`
)

// licensedAs stores the model under a repository of its own, and applies a licence and a grant for it.
func (d *demo) licensedAs(v values) (values, error) {
	pushed := d.quietly("", "go", "run", "./hack/images", "--image", d.registry+"/models/"+v.License+":1.0",
		"--file", filepath.Join(d.out, "model")+":/model", "--push")
	if err := pushed.must(); err != nil {
		return v, errors.Join(err, errors.New(pushed.text))
	}
	v.Image = strings.TrimSpace(pushed.stdout)
	if err := d.apply("license-terms.yaml", v).must(); err != nil {
		return v, err
	}
	if err := d.run("kubectl", "wait", "--for=condition=Ready", "mlic/"+v.License, "--timeout=30s").must(); err != nil {
		return v, err
	}
	if err := d.apply("grant-terms.yaml", v).must(); err != nil {
		return v, err
	}
	return v, d.quietly("", "kubectl", "-n", "demo-ml-prod", "wait", "--for=condition=Ready", "mgrant/"+v.License, "--timeout=30s").must()
}

// seats runs two pods where two seats are licensed, and has a third wait.
func (d *demo) seats() error {
	v := d.values
	v.License, v.Pods = seatsLicence, 2
	v, err := d.licensedAs(v)
	if err != nil {
		return err
	}
	for _, v.Name = range []string{"seat-a", "seat-b"} {
		if err := d.applyQuietly("pod-terms.yaml", v); err != nil {
			return err
		}
	}
	if err := d.run("kubectl", "-n", "demo-ml-prod", "wait", "--for=condition=Ready", "pod/seat-a", "pod/seat-b", "--timeout=90s").must(); err != nil {
		return err
	}
	v.Name = "seat-c"
	if err := d.apply("pod-terms.yaml", v).must(); err != nil {
		return err
	}
	if err := d.eventually(30*time.Second, []string{"WaitingForSeat", "1"}, "kubectl", "-n", "demo-ml-prod", "get", "pod", "seat-c", "-o", licensed); err != nil {
		return err
	}
	if err := d.run("kubectl", "-n", "demo-ml-prod", "get", "pods", "-l", "app="+seatsLicence).says("SchedulingGated"); err != nil {
		return err
	}
	return d.eventually(15*time.Second, []string{"2/2"}, "kubectl", "get", "mlic", seatsLicence)
}

// nextInLine ends one of the two pods: the third starts.
func (d *demo) nextInLine() error {
	if err := d.run("kubectl", "-n", "demo-ml-prod", "delete", "pod", "seat-a", "--wait=false").must(); err != nil {
		return err
	}
	began := time.Now()
	if err := d.run("kubectl", "-n", "demo-ml-prod", "wait", "--for=condition=Ready", "pod/seat-c", "--timeout=90s").must(); err != nil {
		return err
	}
	fmt.Fprintf(d.screen, "The third pod was ready %.1f seconds after the first was deleted.\n", time.Since(began).Seconds())
	return d.run("kubectl", "-n", "demo-ml-prod", "get", "pod", "seat-c", "-o", licensed).must()
}

// grantDeleted takes the entitlement away under two running pods: their keys go, then they do.
func (d *demo) grantDeleted() error {
	pods := []string{"seat-b", "seat-c"}
	files := map[string]string{}
	for _, pod := range pods {
		uid := d.quietly("", "kubectl", "-n", "demo-ml-prod", "get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
		if err := uid.must(); err != nil {
			return err
		}
		files[pod] = filepath.Join(d.kubeletDir, "pods", uid.stdout, "volumes", "kubernetes.io~csi",
			v1alpha1.VolumeNamePrefix+seatsLicence, "mount", v1alpha1.KeyFileName)
	}
	if !d.existing {
		for _, pod := range pods {
			if err := d.run("stat", "--format=%n: %s bytes", files[pod]).must(); err != nil {
				return err
			}
		}
	}
	began := time.Now()
	if err := d.run("kubectl", "-n", "demo-ml-prod", "delete", "modelgrant", seatsLicence).must(); err != nil {
		return err
	}
	if !d.existing { // the node is this machine
		if err := d.untilGone(files); err != nil {
			return err
		}
		fmt.Fprintf(d.screen, "The keys of both pods were gone from the node %.1f seconds after the grant's deletion was asked for.\n", time.Since(began).Seconds())
	}
	if err := d.run("kubectl", "-n", "demo-ml-prod", "wait", "--for=delete", "pod/seat-b", "pod/seat-c", "--timeout=90s").must(); err != nil {
		return err
	}
	fmt.Fprintf(d.screen, "Both pods had ended after %.1f seconds.\n", time.Since(began).Seconds())
	// Not KeyWiped: when the node's report comes, the pod may be gone, and then only the audit log says it.
	return d.eventually(30*time.Second, []string{"Revoked", "RevokedPodEnded"},
		"kubectl", "get", "events", "-n", "demo-ml-prod", "--field-selector=reportingComponent=modelrights-operator,involvedObject.name=seat-b")
}

// untilGone waits until every file is empty or not there any more.
func (d *demo) untilGone(files map[string]string) error {
	ctx, cancel := context.WithTimeout(d.ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left := 0
		for _, file := range files {
			info, err := os.Stat(file)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("look at a key: %w", err)
			}
			if err == nil && info.Size() > 0 {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d keys are still on the node: %w", left, ctx.Err())
		case <-tick.C:
		}
	}
}

// expiry applies a licence that ends while the demo looks on.
func (d *demo) expiry() error {
	v := d.values
	v.License = shortLicence
	end := time.Now().Add(shortLife).UTC()
	v.NotAfter = end.Format(time.RFC3339)
	v, err := d.licensedAs(v)
	if err != nil {
		return err
	}
	v.Name = "short"
	if err := d.applyQuietly("pod-terms.yaml", v); err != nil {
		return err
	}
	if err := d.run("kubectl", "-n", "demo-ml-prod", "wait", "--for=condition=Ready", "pod/short", "--timeout=60s").must(); err != nil {
		return err
	}
	if err := d.run("kubectl", "get", "mlic", shortLicence).must(); err != nil {
		return err
	}
	if err := d.run("kubectl", "-n", "demo-ml-prod", "wait", "--for=delete", "pod/short", "--timeout=90s").must(); err != nil {
		return err
	}
	fmt.Fprintf(d.screen, "The pod had ended %.1f seconds after the licence did.\n", time.Since(end).Seconds())
	if err := d.eventually(15*time.Second, []string{"False"}, "kubectl", "get", "mlic", shortLicence); err != nil {
		return err
	}
	v.Name = "too-late"
	return d.apply("pod-terms.yaml", v).refused("Expired", shortLicence)
}

// applyQuietly applies a manifest without showing it: it is the same as one that was shown, or will be.
func (d *demo) applyQuietly(file string, v values) error {
	var text strings.Builder
	if err := manifests.ExecuteTemplate(&text, file, v); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	r := d.quietly(text.String(), "kubectl", "apply", "-f", "-")
	fmt.Fprintf(d.screen, "$ kubectl apply -f - # %s\n%s", v.Name, r.text)
	return r.must()
}
