package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

//go:embed manifests/*.yaml
var manifestFiles embed.FS

var manifests = template.Must(template.ParseFS(manifestFiles, "manifests/*.yaml"))

const (
	operatorNamespace = "modelrights-system"
	licence           = "demo-chat-7b"
	keySecret         = licence + "-key"
)

// values fill in the manifests.
type values struct {
	Registry, Inference, Model string
	Namespace, Account, Image  string
	// of licences with terms, and of their pods
	License, NotAfter, Name string
	Pods                    int
}

// demo is what the steps share.
type demo struct {
	terminal
	options
	values values
	// installed means that the release of an earlier demo was there, records how many audit records there were.
	installed bool
	// began means that the demo has found nothing in its way and may have made something.
	began   bool
	records int
}

func newDemo(ctx context.Context, opts options, out io.Writer) *demo {
	return &demo{
		terminal: terminal{ctx: ctx, screen: out, programs: map[string]string{"kubectl": opts.kubectl, "helm": opts.helm}},
		options:  opts,
		values:   values{Registry: opts.registry, Inference: opts.registry + "/demo-inference:" + opts.tag},
	}
}

var steps = []step{
	{"Install modelrights with its chart", (*demo).install, true},
	{"The provider seals the model and packs it into an image", (*demo).seal, true},
	{"The platform team stores the key and applies the licence", (*demo).license, true},
	{"A pod that uses the model without a grant is rejected", (*demo).podWithoutGrant, false},
	{"An image in a governed repository that no licence covers is rejected", (*demo).unlicensedImage, false},
	{"The licence is granted to a service account", (*demo).grant, true},
	{"A Deployment of that account runs, opens the weights with its key, and answers over HTTP", (*demo).deployment, false},
	{"An image volume that references the model without a grant is rejected", (*demo).imageVolume, false},
	{"An ephemeral container that references the model without a grant is rejected", (*demo).ephemeralContainer, false},
	{"A Deployment without a grant is rejected as it is applied", (*demo).deploymentElsewhere, false},
	{"A pod that names the model in an argument alone is rejected", (*demo).argument, false},
	{"An image named by its ID on the node, which hides whose it is, is rejected", (*demo).imageID, false},
	{"With a grant, but in a namespace that the licence does not name, a pod is rejected", (*demo).otherNamespace, false},
	{"A pod that mounts the key volume of a licence it has no grant for is rejected", (*demo).keyVolume, false},
	{"Past the webhook, in an exempt namespace, such a pod gets no key either", (*demo).keyVolumePastWebhook, false},
	{"A copy of the model, under a name that nobody governs, is found", (*demo).copied, false},
	{"An engineer asks why a pod is refused, and who could help", (*demo).explain, false},
	{"Two seats are licensed, two pods run, and the third waits and says where it stands", (*demo).seats, false},
	{"One of the two is deleted, and the third runs", (*demo).nextInLine, false},
	{"The grant is deleted: the keys are gone from the node, and the pods end", (*demo).grantDeleted, false},
	{"A licence expires while its pod runs", (*demo).expiry, false},
	{"While no operator runs, ordinary pods start, and those with the model do not", (*demo).outage, false},
	{"Who holds which licence", (*demo).overview, false},
	{"What happened, as Events", (*demo).events, false},
	{"What happened, as evidence: the audit log", (*demo).audit, false},
}

func (d *demo) install() error {
	if err := d.guard(); err != nil {
		return err
	}
	d.began = true
	d.records = len(strings.Fields(d.quietly("", "kubectl", "get", "maudit", "-o", "name").stdout))
	d.clear(d.quietlyRun)
	install := d.run("helm", "upgrade", "--install", "modelrights", "charts/modelrights",
		"--namespace", operatorNamespace, "--create-namespace", "--wait", "--timeout", "4m", "--labels", ours,
		"--set", "image.registry="+d.registry, "--set", "image.tag="+d.tag, "--set", "image.pullPolicy=Always",
		"--set", "node.kubeletDir="+d.kubeletDir,
		"--set", "governedRepositories={"+d.registry+"/models/**}",
		// The cluster of the demo has a registry without TLS.
		"--set", "registries.plainHTTP={"+d.plainHTTP()+"}")
	if err := install.must(); err != nil {
		return err
	}
	if d.installed {
		// Images may have been built anew under the same tag.
		for _, workload := range [][]string{{operatorNamespace, "deployment/modelrights-operator"}, {"modelrights-node", "daemonset/modelrights-node"}} {
			d.run("kubectl", "-n", workload[0], "rollout", "restart", workload[1])
			if err := d.run("kubectl", "-n", workload[0], "rollout", "status", workload[1], "--timeout=2m").must(); err != nil {
				return err
			}
		}
	}
	return d.run("kubectl", "get", "pods", "-A", "-l", "app.kubernetes.io/name=modelrights").must()
}

// plainHTTP is the registry, if it is asked without TLS: on the demo's own cluster.
func (d *demo) plainHTTP() string {
	if d.existing {
		return ""
	}
	return d.registry
}

func (d *demo) seal() error {
	if err := d.run("go", "run", "./hack/demo/model", "-out", d.out).must(); err != nil {
		return err
	}
	sealed := filepath.Join(d.out, "model", "weights.safetensors.age")
	if err := d.run("head", "-n", "1", sealed).says("age-encryption.org/v1"); err != nil {
		return err
	}
	pushed := d.run("go", "run", "./hack/images", "--image", d.registry+"/models/chat-7b:2.1",
		"--file", filepath.Join(d.out, "model")+":/model", "--push")
	d.values.Model = strings.TrimSpace(pushed.stdout)
	return pushed.must()
}

func (d *demo) license() error {
	if err := d.apply("namespaces.yaml", d.values).must(); err != nil {
		return err
	}
	secret := d.quietly("", "kubectl", "-n", operatorNamespace, "create", "secret", "generic", "demo-chat-7b-key",
		"--from-file=key="+filepath.Join(d.out, "model.key"), "--dry-run=client", "-o", "yaml")
	fmt.Fprintf(d.screen, "$ kubectl -n %s create secret generic demo-chat-7b-key --from-file=key=%s\n", operatorNamespace, filepath.Join(d.out, "model.key"))
	stored := d.quietly(secret.stdout, "kubectl", "create", "-f", "-")
	fmt.Fprint(d.screen, stored.text)
	if err := stored.must(); err != nil {
		return err
	}
	if err := d.quietly("", "kubectl", "-n", operatorNamespace, "label", "secret", keySecret, ours).must(); err != nil {
		return err
	}
	if err := d.apply("license.yaml", d.values).must(); err != nil {
		return err
	}
	if err := d.run("kubectl", "wait", "--for=condition=Ready", "mlic/"+licence, "--timeout=30s").must(); err != nil {
		return err
	}
	return d.run("kubectl", "get", "mlic").must()
}

func (d *demo) podWithoutGrant() error {
	v := d.values
	v.Namespace, v.Account, v.Image = "demo-ml-prod", "llm-server", d.values.Model
	return d.apply("pod-model-image.yaml", v).refused("NoGrant", licence, "chat-7b")
}

func (d *demo) unlicensedImage() error {
	v := d.values
	v.Namespace, v.Account, v.Image = "demo-ml-prod", "llm-server", d.registry+"/models/found-somewhere:1.0"
	return d.apply("pod-model-image.yaml", v).refused("Unlicensed", "found-somewhere")
}

func (d *demo) grant() error {
	v := d.values
	v.Namespace, v.Account = "demo-ml-prod", "llm-server"
	if err := d.apply("grant.yaml", v).must(); err != nil {
		return err
	}
	if err := d.run("kubectl", "wait", "--for=condition=Ready", "mgrant/chat", "-n", "demo-ml-prod", "--timeout=30s").must(); err != nil {
		return err
	}
	return d.run("kubectl", "get", "mgrant", "-n", "demo-ml-prod").must()
}

func (d *demo) deployment() error {
	v := d.values
	v.Namespace = "demo-ml-prod"
	if err := d.apply("deployment.yaml", v).must(); err != nil {
		return err
	}
	if err := d.run("kubectl", "-n", "demo-ml-prod", "rollout", "status", "deployment/llm", "--timeout=120s").must(); err != nil {
		d.run("kubectl", "-n", "demo-ml-prod", "describe", "pods", "-l", "app=llm")
		return err
	}
	if err := d.run("kubectl", "-n", "demo-ml-prod", "logs", "deployment/llm").must(); err != nil {
		return err
	}
	name := d.quietly("", "kubectl", "-n", "demo-ml-prod", "get", "pods", "-l", "app=llm", "-o", "jsonpath={.items[0].metadata.name}")
	if err := name.must(); err != nil {
		return err
	}
	proxy := "/api/v1/namespaces/demo-ml-prod/pods/" + name.stdout + ":8080/proxy"
	answer := d.run("kubectl", "get", "--raw", proxy+"/v1/model")
	if err := answer.must(); err != nil {
		return err
	}
	var model struct {
		SHA256 string `json:"sha256"`
	}
	if err := json.Unmarshal([]byte(answer.stdout), &model); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	plain, err := os.ReadFile(filepath.Join(d.out, "weights.safetensors"))
	if err != nil {
		return err
	}
	want := fmt.Sprintf("%x", sha256.Sum256(plain))
	fmt.Fprintf(d.screen, "$ sha256sum %s\n%s\n", filepath.Join(d.out, "weights.safetensors"), want)
	if model.SHA256 != want {
		return fmt.Errorf("the server opened weights with SHA-256 %s, want %s", model.SHA256, want)
	}
	return d.runWith(`{"text": "Which licence is this?"}`, "kubectl", "create", "--raw", proxy+"/v1/predict", "-f", "-").says("probabilities")
}

func (d *demo) imageVolume() error {
	v := d.values
	v.Namespace = "demo-ml-dev"
	return d.apply("pod-image-volume.yaml", v).refused("NoGrant", licence)
}

func (d *demo) ephemeralContainer() error {
	if err := d.apply("pod-ordinary.yaml", d.values).must(); err != nil {
		return err
	}
	if err := d.run("kubectl", "-n", "demo-ml-dev", "wait", "--for=condition=Ready", "pod/ordinary", "--timeout=60s").must(); err != nil {
		return err
	}
	return d.run("kubectl", "-n", "demo-ml-dev", "debug", "ordinary", "--image="+d.values.Model, "--profile=restricted").refused("NoGrant", licence)
}

func (d *demo) otherNamespace() error {
	v := d.values
	v.Namespace, v.Account, v.Image = "demo-ml-elsewhere", "default", d.values.Model
	if err := d.apply("grant.yaml", v).must(); err != nil {
		return err
	}
	if err := d.eventually(30*time.Second, []string{"NamespaceNotAllowed"}, "kubectl", "get", "mgrant", "-n", "demo-ml-elsewhere"); err != nil {
		return err
	}
	return d.apply("pod-model-image.yaml", v).refused("NamespaceNotAllowed", "demo-ml-elsewhere")
}

func (d *demo) keyVolume() error {
	v := d.values
	v.Namespace = "demo-ml-dev"
	return d.apply("pod-key-volume.yaml", v).refused("ModelNotReferenced", "demo-chat-7b")
}

func (d *demo) keyVolumePastWebhook() error {
	v := d.values
	v.Namespace = "kube-system"
	if err := d.apply("pod-key-volume.yaml", v).must(); err != nil {
		return err
	}
	// By its UID: an earlier run may have left Events on a pod of that name.
	uid := d.quietly("", "kubectl", "-n", "kube-system", "get", "pod", "key-thief", "-o", "jsonpath={.metadata.uid}")
	if err := uid.must(); err != nil {
		return err
	}
	if err := d.eventually(90*time.Second, []string{"FailedMount", "KeyRefused"},
		"kubectl", "-n", "kube-system", "get", "events", "--field-selector=involvedObject.uid="+uid.stdout); err != nil {
		return err
	}
	if err := d.eventually(30*time.Second, []string{"ContainerCreating"}, "kubectl", "-n", "kube-system", "get", "pod", "key-thief"); err != nil {
		return fmt.Errorf("the pod should wait for a key that it does not get: %w", err)
	}
	return d.quietly("", "kubectl", "-n", "kube-system", "delete", "pod", "key-thief", "--wait=false").must()
}

func (d *demo) overview() error {
	return d.run("kubectl", "get", "mlic,mgrant", "-A").says("demo-chat-7b", "demo-ml-prod", "demo-ml-elsewhere")
}

func (d *demo) events() error {
	return d.eventually(30*time.Second, []string{"Ready", "Denied", "Admitted", "KeyReleased"},
		"kubectl", "get", "events", "-n", "demo-ml-prod", "--field-selector=reportingComponent=modelrights-operator", "--sort-by=.metadata.creationTimestamp")
}

func (d *demo) audit() error {
	words := []string{"LicenseCreated", "GrantCreated", "Admitted", "Denied", "KeyReleased", "KeyRefused", "CopyDetected", "Revoked", "KeyWiped", "SeatEnded"}
	entries := []string{"kubectl", "get", "maudit", "-o", fmt.Sprintf(`jsonpath={range .items[%d:].spec.entries[*]}{@}{"\n"}{end}`, d.records)}
	if err := d.eventually(30*time.Second, nil, "kubectl", "get", "maudit"); err != nil {
		return err
	}
	fmt.Fprintln(d.screen)
	return d.eventually(30*time.Second, words, entries...)
}

// apply applies a manifest, which it shows.
func (d *demo) apply(file string, v values) result {
	var text strings.Builder
	if err := manifests.ExecuteTemplate(&text, file, v); err != nil {
		return result{text: err.Error(), err: err}
	}
	return d.runWith(text.String(), "kubectl", "apply", "-f", "-")
}

// help shows what helps to find out why a step failed.
func (d *demo) help() {
	d.run("kubectl", "get", "pods", "-A", "-o", "wide")
	d.run("kubectl", "-n", operatorNamespace, "logs", "deployment/modelrights-operator", "--all-pods", "--tail=40")
	d.run("kubectl", "-n", "modelrights-node", "logs", "daemonset/modelrights-node", "--all-containers", "--tail=20")
	if d.logs != "" {
		fmt.Fprintf(d.screen, "The logs of the cluster itself are in %s; cluster-down moves them to %s-logs.\n", d.logs, filepath.Dir(d.logs))
	}
	fmt.Fprintln(d.screen)
}
