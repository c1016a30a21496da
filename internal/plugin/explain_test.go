package plugin

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/plugin/view"
	"modelrights.dev/modelrights/test/builders"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const (
	chatRepository = "registry.example.com/models/chat-7b"
	chatImage      = chatRepository + ":2.1"
)

// world is what a cluster has, and what its user may not do there, as "VERB RESOURCE" or "VERB RESOURCE/NAME".
type world struct {
	objects   []client.Object
	forbidden []string
	fail      error
}

// newWorld is a cluster in which chat-7b is licensed to namespaces ml-prod and ml-dev, and granted in ml-prod.
func newWorld() *world {
	return &world{objects: []client.Object{
		builders.Namespace("ml-prod").Obj(),
		builders.Namespace("ml-dev").Obj(),
		builders.License("acme-chat-7b").Repository(chatRepository).Namespaces("ml-prod", "ml-dev").NotAfter(now.Add(time.Hour)).Obj(),
		builders.License("acme-labelled").Repository("registry.example.com/models/labelled").NamespaceSelector(map[string]string{"team": "ml"}).Obj(),
		builders.Grant("ml-prod", "chat", "acme-chat-7b").ServiceAccount("llm-server").Obj(),
		builders.Grant("ml-prod", "merging", "acme-chat-7b").ServiceAccount("llm-server").Action(v1alpha1.ActionMerge).Obj(),
		info("registry.example.com/models/**"),
	}}
}

func info(governed ...string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: view.InfoNamespace, Name: view.InfoName},
		Data: map[string]string{
			"version": "0.1.0", "operatorNamespace": "modelrights-system",
			"governedRepositories": strings.Join(governed, "\n"), "exemptNamespaces": "kube-system\nmodelrights-system",
		},
	}
}

func (w *world) with(objects ...client.Object) *world {
	w.objects = append(w.objects, objects...)
	return w
}

func (w *world) without(name string) *world {
	var kept []client.Object
	for _, o := range w.objects {
		if o.GetName() != name {
			kept = append(kept, o)
		}
	}
	w.objects = kept
	return w
}

func (w *world) forbid(what ...string) *world {
	w.forbidden = append(w.forbidden, what...)
	return w
}

func (w *world) reader(t *testing.T) client.Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	refuse := func(verb, resource, name, namespace string) error {
		if w.fail != nil {
			return w.fail
		}
		for _, f := range w.forbidden {
			if f == verb+" "+resource || f == verb+" "+resource+"/"+name {
				group := ""
				if strings.HasPrefix(resource, "model") {
					group = v1alpha1.GroupVersion.Group
				}
				scope := "at the cluster scope"
				if namespace != "" {
					scope = `in the namespace "` + namespace + `"`
				}
				return apierrors.NewForbidden(schema.GroupResource{Group: group, Resource: resource}, name,
					errors.New(`User "bob" cannot `+verb+` resource "`+resource+`" in API group "`+group+`" `+scope))
			}
		}
		return nil
	}
	resources := map[string]string{
		"ModelLicense": "modellicenses", "ModelGrant": "modelgrants", "ConfigMap": "configmaps", "Namespace": "namespaces", "Event": "events",
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(w.objects...).
		WithIndex(&corev1.Event{}, "involvedObject.uid", func(o client.Object) []string { return []string{string(o.(*corev1.Event).InvolvedObject.UID)} }).
		WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				gvk, _ := c.GroupVersionKindFor(o)
				if err := refuse("get", resources[gvk.Kind], key.Name, key.Namespace); err != nil {
					return err
				}
				return c.Get(ctx, key, o, opts...)
			},
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				gvk, _ := c.GroupVersionKindFor(list)
				options := (&client.ListOptions{}).ApplyOptions(opts)
				if err := refuse("list", resources[strings.TrimSuffix(gvk.Kind, "List")], "", options.Namespace); err != nil {
					return err
				}
				return c.List(ctx, list, opts...)
			},
		}).Build()
}

// explainIn runs explain in a cluster, where the arguments that are no flags name the given objects.
func explainIn(t *testing.T, w *world, live []client.Object, stdin string, args ...string) (status int, out, errOut string) {
	t.Helper()
	t.Setenv("KUBECONFIG", "testdata/kubeconfig.yaml")
	streams, in, o, e := genericiooptions.NewTestIOStreams()
	in.WriteString(stdin)
	options := &explainOptions{
		streams: streams, cluster: newClusterFlags(), files: newFileFlags("files"), output: newOutputFlags(formatWide),
		clock:   clocktesting.NewFakePassiveClock(now),
		connect: func() (client.Reader, error) { return w.reader(t), nil },
		fetch: func([]string) ([]*unstructured.Unstructured, error) {
			var all []*unstructured.Unstructured
			for _, object := range live {
				content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, &unstructured.Unstructured{Object: content})
			}
			return all, nil
		},
	}
	cmd := options.command()
	options.cluster.AddFlags(cmd.Flags())
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	return exitStatus(cmd.ExecuteContext(t.Context()), streams.ErrOut), o.String(), e.String()
}

func TestExplain(t *testing.T) {
	pod := builders.Pod("ml-prod", "chat-0").ServiceAccount("llm-server").Container("server", chatImage).Container("sidecar", "envoy:1").KeyVolume("acme-chat-7b", "server").Obj()
	pod.UID = "11111111-1111-1111-1111-111111111111"
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: v1alpha1.PodConditionLicensed, Status: corev1.ConditionTrue, Reason: "Entitled",
		Message: "licence acme-chat-7b of acme.example by grant chat [0123456789ab]", LastTransitionTime: metav1.NewTime(now.Add(-time.Hour)),
	}}
	event := func(name, component, reason, message string) *corev1.Event {
		return &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Namespace: "ml-prod", Name: name},
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "ml-prod", Name: "chat-0", UID: pod.UID},
			Type:           corev1.EventTypeNormal, Reason: reason, Message: message, ReportingController: component,
			LastTimestamp: metav1.NewTime(now.Add(-time.Minute)),
		}
	}
	withEvents := func() *world {
		return newWorld().with(
			event("a", operatorComponent, "Admitted", "licence acme-chat-7b of acme.example by grant chat"),
			event("b", "kubelet", "Pulled", "not ours"),
			event("c", "kubelet", "FailedMount", `MountVolume.SetUp failed for volume "modelrights-acme-chat-7b": KeyServiceUnreachable`))
	}
	deployment := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "chat", "namespace": "ml-prod"},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers": []any{map[string]any{"name": "c", "image": "registry.example.com/models/chat-7b:${TAG}"}},
		}}},
	}}

	for name, test := range map[string]struct {
		world  *world
		live   []client.Object
		stdin  string
		args   []string
		status int
		err    string
	}{
		"explain":      {world: newWorld(), args: []string{"-f", "testdata/chat.yaml"}, status: StatusFindings, err: "error: 3 references refused\n"},
		"explain-wide": {world: newWorld(), args: []string{"-f", "testdata/chat.yaml", "-o", "wide"}, status: StatusFindings, err: "error: 3 references refused\n"},
		"explain-json": {world: newWorld(), args: []string{"-f", "testdata/chat.yaml", "-o", "json"}, status: StatusFindings, err: "error: 3 references refused\n"},
		"explain-yaml": {world: newWorld(), live: []client.Object{pod}, args: []string{"pod/chat-0", "-o", "yaml"}},
		"explain-pod":  {world: withEvents(), live: []client.Object{pod}, args: []string{"pod/chat-0"}},
		"explain-pod-without-events": {
			world: withEvents().forbid("list events"), live: []client.Object{pod}, args: []string{"pod/chat-0"},
			err: `warning: "bob" may not list events in namespace ml-prod; ask an admin of namespace ml-prod for: kubectl -n ml-prod create rolebinding view-bob --clusterrole=view --user=bob` + "\n",
		},
		"explain-live-placeholder": {world: newWorld(), live: []client.Object{deployment}, args: []string{"deployment/chat"}, status: StatusFindings, err: "error: 1 reference refused\n"},
		"explain-entitled":         {world: newWorld(), stdin: podManifest("ml-prod", "llm-server", chatImage), args: []string{"-f", "-"}},
		"explain-expired":          {world: newWorld().without("acme-chat-7b").with(builders.License("acme-chat-7b").Repository(chatRepository).NotAfter(now).Obj()), stdin: podManifest("ml-prod", "llm-server", chatImage), args: []string{"-f", "-"}, status: StatusFindings, err: "error: 1 reference refused\n"},
		"explain-exempt":           {world: newWorld(), stdin: podManifest("kube-system", "x", chatImage), args: []string{"-f", "-"}, status: StatusFindings, err: "error: 1 reference refused\n"},
		"explain-default-namespace": {
			world: newWorld(), stdin: podManifest("", "llm-server", chatImage), args: []string{"-f", "-", "-n", "ml-prod"},
		},
		"explain-other-namespace": {
			world: newWorld(), stdin: podManifest("ml-dev", "x", chatImage), args: []string{"-f", "-", "-n", "ml-prod"}, status: StatusError,
			err: "error: STDIN: document 1 (line 1): the object's namespace \"ml-dev\" is not \"ml-prod\", which was given with --namespace\n",
		},
		"explain-broken": {world: newWorld(), args: []string{"-f", "testdata/broken.yaml"}, status: StatusError, err: brokenErrors},
		"explain-key-volume": {
			world:  newWorld(),
			stdin:  `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"thief","namespace":"ml-dev"},"spec":{"containers":[{"name":"c","image":"busybox"}],"volumes":[{"name":"k","csi":{"driver":"node.modelrights.dev","readOnly":true,"volumeAttributes":{"license":"acme-chat-7b"}}}]}}`,
			args:   []string{"-f", "-"},
			status: StatusFindings, err: "error: 1 reference refused\n",
		},
		"explain-seats": {
			world: newWorld().without("acme-chat-7b").without("merging").without("chat").with(limited(builders.License("acme-chat-7b")),
				builders.Grant("ml-prod", "chat", "acme-chat-7b").ServiceAccount("llm-server").Limits("pods", "2").Obj()),
			stdin: podManifest("ml-prod", "llm-server", chatImage), args: []string{"-f", "-"},
		},
		"explain-node-name": {
			world:  newWorld(),
			stdin:  `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"ml-prod"},"spec":{"serviceAccountName":"llm-server","nodeName":"a","containers":[{"name":"c","image":"` + chatImage + `"}]}}`,
			args:   []string{"-f", "-"},
			status: StatusFindings, err: "error: 1 reference refused\n",
		},
		"explain-tolerated": {
			world:  newWorld().without("acme-chat-7b").with(builders.License("acme-chat-7b").Repository(chatRepository).Suspended().Enforcement(v1alpha1.EnforcementWarn).Obj()),
			stdin:  podManifest("ml-prod", "llm-server", chatImage),
			args:   []string{"-f", "-"},
			status: StatusFindings, err: "error: 1 reference refused\n",
		},
		"explain-grace": {
			world: newWorld().without("acme-chat-7b").with(builders.License("acme-chat-7b").Repository(chatRepository).NotAfter(now).Grace(time.Hour).Obj()),
			live:  []client.Object{pod}, args: []string{"pod/chat-0"},
		},
		"explain-pinned": {world: newWorld().without("acme-chat-7b").with(pinning()), stdin: podManifest("ml-prod", "llm-server", chatImage), args: []string{"-f", "-"}},
		"explain-unresolved": {
			world: newWorld(), stdin: podManifest("ml-prod", "llm-server", chatRepository+":<TAG>"), args: []string{"-f", "-"},
		},
		"explain-unresolved-fails": {
			world: newWorld(), stdin: podManifest("ml-prod", "llm-server", chatRepository+":<TAG>"), args: []string{"-f", "-", "--fail-on", "unresolved"},
			status: StatusFindings, err: "error: 1 reference unresolved (--fail-on)\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			status, out, errOut := explainIn(t, test.world, test.live, test.stdin, test.args...)
			if status != test.status || errOut != test.err {
				t.Errorf("exit status %d, want %d; says:\n%swant:\n%s", status, test.status, errOut, test.err)
			}
			compareGolden(t, name, out)
		})
	}
}

// limited is a licence of chat-7b that is full.
func limited(b *builders.LicenseBuilder) *v1alpha1.ModelLicense {
	license := b.Repository(chatRepository).Limits("pods", "4", "nvidia.com/gpu", "8").Overage(v1alpha1.OverageQueue).Obj()
	license.Status.Seats = &v1alpha1.SeatStatus{Summary: "4/4", Waiting: 2}
	return license
}

// pinning is the licence of chat-7b, which asks for digests, and knows that of the tag.
func pinning() *v1alpha1.ModelLicense {
	license := builders.License("acme-chat-7b").Repository(chatRepository).Namespaces("ml-prod").Obj()
	pin := true
	license.Spec.PinDigests = &pin
	license.Status.Images = []v1alpha1.ResolvedImage{{Repository: chatRepository, Tag: "2.1", Digest: "sha256:" + strings.Repeat("a", 64)}}
	return license
}

func podManifest(namespace, account, image string) string {
	manifest := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n"
	if namespace != "" {
		manifest += "  namespace: " + namespace + "\n"
	}
	return manifest + "spec:\n  serviceAccountName: " + account + "\n  containers: [{name: c, image: \"" + image + "\"}]\n"
}

// TestExplainWithinLimits: what a user may not see is told, falls back to what the user may, and never makes an answer
// that the operator would not give.
func TestExplainWithinLimits(t *testing.T) {
	labelled := "registry.example.com/models/labelled:1"
	noLicenses := `warning: only licences that grants name can be looked at: "bob" may not list modellicenses.modelrights.dev in the whole cluster; ask a cluster admin for: kubectl create clusterrolebinding modelrights-viewer-bob --clusterrole=modelrights-viewer --user=bob` + "\n"
	noGrants := `warning: "bob" may not list modelgrants.modelrights.dev in namespace ml-prod; ask an admin of namespace ml-prod for: kubectl -n ml-prod create rolebinding view-bob --clusterrole=view --user=bob` + "\n"
	noLabels := `warning: "bob" may not get namespaces in namespace ml-prod; ask an admin of namespace ml-prod for: kubectl -n ml-prod create rolebinding view-bob --clusterrole=view --user=bob` + "\n"
	noInfo := "warning: which repositories are governed without a licence is not known: ConfigMap kube-public/modelrights-info is missing; ask your platform team to upgrade modelrights, or name the repositories with --governed-repository\n"
	undecided := "error: 1 reference could not be decided on with what you may see (--allow-unknown accepts that)\n"
	refused := "error: 1 reference refused\n"

	for name, test := range map[string]struct {
		world     *world
		namespace string
		image     string
		args      []string
		verdict   Verdict
		status    int
		err       string
	}{
		"licences one by one, entitled":        {world: newWorld().forbid("list modellicenses"), image: chatImage, verdict: Entitled, err: noLicenses},
		"licences one by one, not granted":     {world: newWorld().forbid("list modellicenses"), image: labelled, verdict: Refused, status: StatusFindings, err: noLicenses + refused},
		"licences one by one, perhaps covered": {world: newWorld().forbid("list modellicenses"), image: "ghcr.io/other:1", verdict: Unknown, status: StatusError, err: noLicenses + undecided},
		"accepted":                             {world: newWorld().forbid("list modellicenses"), image: "ghcr.io/other:1", args: []string{"--allow-unknown"}, verdict: Unknown, err: noLicenses},
		"a granted licence that is hidden": {
			world: newWorld().forbid("list modellicenses", "get modellicenses/acme-chat-7b"), image: chatImage, verdict: Unknown, status: StatusError,
			err: noLicenses + `warning: "bob" may not get modellicenses.modelrights.dev/acme-chat-7b in the whole cluster; ask a cluster admin for: kubectl create clusterrolebinding modelrights-viewer-bob --clusterrole=modelrights-viewer --user=bob` + "\n" + undecided,
		},
		"no grants, licence covers":              {world: newWorld().forbid("list modelgrants"), image: chatImage, verdict: Unknown, status: StatusError, err: noGrants + undecided},
		"no grants, licence does not name it":    {world: newWorld().forbid("list modelgrants"), image: labelled, verdict: Refused, status: StatusFindings, err: noGrants + refused},
		"no grants, not governed":                {world: newWorld().forbid("list modelgrants"), image: "ghcr.io/other:1", verdict: NotGoverned, err: noGrants},
		"no grants and no licences":              {world: newWorld().forbid("list modelgrants", "list modellicenses"), image: chatImage, verdict: Unknown, status: StatusError, err: noLicenses + noGrants + undecided},
		"no labels, licence by label":            {world: newWorld().forbid("get namespaces"), image: labelled, verdict: Unknown, status: StatusError, err: noLabels + undecided},
		"no labels, licence by name":             {world: newWorld().forbid("get namespaces"), image: chatImage, verdict: Entitled, err: noLabels},
		"no info, covered":                       {world: newWorld().without(view.InfoName), image: chatImage, verdict: Entitled, err: noInfo},
		"no info, not covered":                   {world: newWorld().without(view.InfoName), image: "ghcr.io/other:1", verdict: Unknown, status: StatusError, err: noInfo + undecided},
		"no info, repositories given":            {world: newWorld().without(view.InfoName), image: "ghcr.io/other:1", args: []string{"--governed-repository", "registry.example.com/models/**"}, verdict: NotGoverned},
		"repositories given instead":             {world: newWorld(), image: "ghcr.io/other:1", args: []string{"--governed-repository", "ghcr.io/**"}, verdict: Refused, status: StatusFindings, err: refused},
		"governed without a licence":             {world: newWorld(), image: "registry.example.com/models/new:1", verdict: Refused, status: StatusFindings, err: refused},
		"unparsable where something is governed": {world: newWorld(), image: "example.com/UPPER", verdict: Refused, status: StatusFindings, err: refused},
		"an ID where it is not known what is":    {world: newWorld().without(view.InfoName).forbid("list modellicenses", "list modelgrants"), image: "sha256:abcdef", verdict: Unknown, status: StatusError, err: noInfo + noLicenses + noGrants + undecided},
		"a namespace of the manifests":           {world: newWorld(), namespace: "ml-new", image: labelled, verdict: Refused, status: StatusFindings, err: refused},
	} {
		t.Run(name, func(t *testing.T) {
			namespace := firstOf(test.namespace, "ml-prod")
			stdin := podManifest(namespace, "llm-server", test.image) + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: ml-new, labels: {team: ml}}\n"
			args := append([]string{"-f", "-", "-o", `jsonpath={.items[0].references[0].verdict} {.items[0].references[0].reason}`}, test.args...)
			status, out, errOut := explainIn(t, test.world, nil, stdin, args...)
			verdict, reason, _ := strings.Cut(out, " ")
			if Verdict(verdict) != test.verdict || status != test.status {
				t.Errorf("verdict %s (%s), exit status %d; want %s, %d", verdict, reason, status, test.verdict, test.status)
			}
			if errOut != test.err {
				t.Errorf("says:\n%swant:\n%s", errOut, test.err)
			}
			if test.namespace == "ml-new" && reason != string(v1alpha1.ReasonNoGrant) {
				t.Errorf("reason %s: the labels that the manifest gives its namespace do not count", reason)
			}
		})
	}
}

// TestExplainFails: what is not the user's lack of rights is an error, and nothing is decided.
func TestExplainFails(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"not installed":  {&meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: "modelrights.dev", Kind: "ModelLicense"}}, "modelrights is not installed there"},
		"no API server":  {errors.New("connection refused"), "connection refused"},
		"not known here": {apierrors.NewUnauthorized("who are you"), "who are you"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.fail = test.err
			status, out, errOut := explainIn(t, w, nil, podManifest("ml-prod", "x", chatImage), "-f", "-", "--governed-repository", "ghcr.io/**")
			if status != StatusError || out != "" || !strings.Contains(errOut, test.want) {
				t.Errorf("exit status %d, prints %q, says %q", status, out, errOut)
			}
		})
	}
}
