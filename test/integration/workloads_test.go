package integration

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/prefilter"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/workloads"
	"modelrights.dev/modelrights/test/builders"
	"modelrights.dev/modelrights/webhooks"
)

// slowRights are the real store's, but read live only when they are let.
type slowRights struct {
	*rights.Store
	block atomic.Bool
}

func (s *slowRights) Live(ctx context.Context, namespace string) (*entitlement.Snapshot, error) {
	if s.block.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.Store.Live(ctx, namespace)
}

// countingServer counts the reviews of workloads that come in, and answers none while it is away.
type countingServer struct {
	webhook.Server
	reviews atomic.Int64
	away    atomic.Bool
}

func (c *countingServer) Register(path string, hook http.Handler) {
	c.Server.Register(path, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if c.away.Load() {
			panic(http.ErrAbortHandler) // the connection breaks off
		}
		c.reviews.Add(1)
		hook.ServeHTTP(w, req)
	}))
}

// heard are the warnings that a client got.
type heard struct {
	mu       sync.Mutex
	warnings []string
}

func (h *heard) HandleWarningHeader(_ int, _ string, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.warnings = append(h.warnings, text)
}

// take returns the warnings since it was called last.
func (h *heard) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	taken := h.warnings
	h.warnings = nil
	return taken
}

// workloadsWorld is an API server with the webhook for workloads and the controller of its rules.
type workloadsWorld struct {
	client client.Client
	heard  *heard
	server *countingServer
	rights *slowRights
	config *rest.Config
}

// rulesWriter writes the rules into the configuration whenever they change.
type rulesWriter struct {
	client client.Client
	rules  *controllers.WorkloadRules
}

func (w *rulesWriter) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var configuration admissionregistrationv1.ValidatingWebhookConfiguration
	if err := w.client.Get(ctx, client.ObjectKey{Name: admissionconfig.Workloads}, &configuration); err != nil {
		return reconcile.Result{}, err
	}
	configuration.Webhooks[0].Rules = w.rules.Rules()
	return reconcile.Result{}, w.client.Update(ctx, &configuration)
}

func startWorkloads(ctx context.Context) *workloadsWorld {
	GinkgoHelper()
	builtIn, _ := workloads.Rules(nil, nil)
	pattern, err := images.ParsePattern("registry.example.com/**")
	Expect(err).NotTo(HaveOccurred())
	settings := admissionconfig.Settings{
		ServiceName: "modelrights-webhook", ServiceNamespace: operatorNamespace, ValidateWorkloadsPath: webhooks.ValidateWorkloadsPath(pathSecret),
	}
	state := admissionconfig.State{Filter: prefilter.New(slices.Values([]images.Pattern{pattern})), WorkloadRules: builtIn}
	hooks := admissionconfig.ValidatingWorkloads(settings, state)
	for i := range hooks {
		hooks[i].TimeoutSeconds = ptr.To[int32](patience)
	}
	env := &envtest.Environment{WebhookInstallOptions: envtest.WebhookInstallOptions{
		ValidatingWebhooks: []*admissionregistrationv1.ValidatingWebhookConfiguration{{
			ObjectMeta: metav1.ObjectMeta{Name: admissionconfig.Workloads}, Webhooks: hooks,
		}},
	}}
	w := &workloadsWorld{config: startEnvironment(env), heard: &heard{}}
	DeferCleanup(env.Stop)
	listening := rest.CopyConfig(w.config)
	listening.WarningHandler = w.heard
	w.client, err = client.New(listening, client.Options{Scheme: testScheme})
	Expect(err).NotTo(HaveOccurred())

	install := env.WebhookInstallOptions
	w.server = &countingServer{Server: webhook.NewServer(webhook.Options{
		Host: install.LocalServingHost, Port: install.LocalServingPort, CertDir: install.LocalServingCertDir,
	})}
	mgr, err := ctrl.NewManager(w.config, ctrl.Options{
		Scheme: testScheme, Metrics: metricsserver.Options{BindAddress: "0"}, Logger: GinkgoLogr, WebhookServer: w.server,
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{controllers.CustomResourceDefinitions(): {Transform: controllers.TrimCRD}}},
	})
	Expect(err).NotTo(HaveOccurred())
	mgr.GetWebhookServer() // which starts it with the manager
	store, err := rights.NewStore([]string{"registry.example.com/governed/**"}, mgr.GetCache(), mgr.GetAPIReader())
	Expect(err).NotTo(HaveOccurred())
	running, stop := context.WithCancel(context.Background())
	waitForSync, err := store.Watch(running, mgr.GetCache())
	Expect(err).NotTo(HaveOccurred())
	w.rights = &slowRights{Store: store}
	Expect(webhooks.Register(w.server, webhooks.Options{
		PathSecret: pathSecret, Rights: w.rights, OperatorUser: "modelrights-operator", Denials: webhooks.NewReporter(&submitted{}, mgr.GetEventRecorder("modelrights-operator")),
		Workloads: webhooks.WorkloadOptions{Table: workloads.Default()},
	})).To(Succeed())
	rules := &controllers.WorkloadRules{Client: mgr.GetClient(), Groups: workloads.Default().Groups()}
	Expect(rules.SetupWithManager(mgr)).To(Succeed())
	once := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{{}} })
	Expect(ctrl.NewControllerManagedBy(mgr).Named("rules-writer").
		WatchesRawSource(source.Channel(rules.Changes(), once)).
		Complete(&rulesWriter{client: mgr.GetClient(), rules: rules})).To(Succeed())

	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(running) }()
	DeferCleanup(func() {
		stop()
		Eventually(ended).Should(Receive(BeNil()))
	})
	Expect(waitForSync(ctx)).To(Succeed())
	Eventually(func() error { return w.server.StartedChecker()(nil) }).Should(Succeed())
	return w
}

// write creates objects and waits until the webhook knows them.
func (w *workloadsWorld) write(ctx context.Context, objects ...client.Object) {
	GinkgoHelper()
	for _, object := range objects {
		Expect(w.client.Create(ctx, object)).To(Succeed())
	}
	Eventually(func(g Gomega) {
		s, _ := w.rights.Snapshot()
		for _, object := range objects {
			switch o := object.(type) {
			case *v1alpha1.ModelLicense:
				g.Expect(s.License(o.Name)).NotTo(BeNil())
			case *v1alpha1.ModelGrant:
				g.Expect(s.GrantsIn(o.Namespace)).NotTo(BeEmpty())
			}
		}
	}).Should(Succeed())
}

// rules are those of the webhook, as GROUP: resources.
func (w *workloadsWorld) rules(ctx context.Context) map[string][]string {
	GinkgoHelper()
	var configuration admissionregistrationv1.ValidatingWebhookConfiguration
	Expect(w.client.Get(ctx, client.ObjectKey{Name: admissionconfig.Workloads}, &configuration)).To(Succeed())
	all := map[string][]string{}
	for _, r := range configuration.Webhooks[0].Rules {
		all[r.APIGroups[0]] = r.Resources
	}
	return all
}

// definition is a CustomResourceDefinition that takes any object.
func definition(group, version, kind, plural, scope string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": plural + "." + group},
		"spec": map[string]any{
			"group": group, "scope": scope,
			"names": map[string]any{"kind": kind, "plural": plural, "singular": strings.ToLower(kind)},
			"versions": []any{map[string]any{
				"name": version, "served": true, "storage": true, "subresources": map[string]any{"status": map[string]any{}},
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			}},
		},
	}}
}

func inferenceService(name, account, uri string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": map[string]any{"name": name, "namespace": "ml-prod"},
		"spec": map[string]any{"predictor": map[string]any{"serviceAccountName": account, "model": map[string]any{"storageUri": uri}}},
	}}
}

// podTemplate is one with one container.
func podTemplate(account, image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "chat"}},
		Spec:       corev1.PodSpec{ServiceAccountName: account, Containers: []corev1.Container{{Name: "server", Image: image}}},
	}
}

// workloadKinds are all built-in kinds with a pod template.
func workloadKinds(name, account, image string) map[string]client.Object {
	meta := metav1.ObjectMeta{Name: name, Namespace: "ml-prod"}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "chat"}}
	template := podTemplate(account, image)
	once := *template.DeepCopy()
	once.Spec.RestartPolicy = corev1.RestartPolicyNever
	return map[string]client.Object{
		"deployment":            &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}},
		"statefulset":           &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template}},
		"daemonset":             &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}},
		"replicaset":            &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: template}},
		"replicationcontroller": &corev1.ReplicationController{ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{Selector: selector.MatchLabels, Template: &template}},
		"podtemplate":           &corev1.PodTemplate{ObjectMeta: meta, Template: template},
		"job":                   &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: once}},
		"cronjob":               &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{Schedule: "0 3 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: once}}}},
	}
}

var _ = Describe("Workloads", Ordered, ContinueOnFailure, func() {
	var w *workloadsWorld
	deployment := func(name, account, image string) *appsv1.Deployment {
		return workloadKinds(name, account, image)["deployment"].(*appsv1.Deployment)
	}
	old := deployment("old", "llm", codeImage)

	BeforeAll(func(ctx SpecContext) {
		w = startWorkloads(ctx)
		w.write(ctx, builders.Namespace("ml-prod").Obj(), old)
		w.write(ctx,
			builders.License("acme-chat").Repository("registry.example.com/models/chat").Key("v2").Namespaces("ml-prod").Obj(),
			builders.License("acme-code").Repository("registry.example.com/models/code").Key("v1").Namespaces("ml-prod").Obj(),
			builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").Obj())
	}, NodeTimeout(specTimeout))

	BeforeEach(func() { w.heard.take() })

	for kind := range workloadKinds("", "", "") {
		It("denies a "+kind+" without a grant, and admits one with", func(ctx SpecContext) {
			err := w.client.Create(ctx, workloadKinds("denied", "llm", codeImage)[kind])
			Expect(err).To(MatchError(ContainSubstring("modelrights: " + kind + " denied [NoGrant]: container \"server\"")))
			Expect(err).To(MatchError(ContainSubstring("modellicenses/acme-code")))
			Expect(w.client.Create(ctx, workloadKinds("admitted", "llm", chatImage)[kind])).To(Succeed())
			Expect(w.heard.take()).To(BeEmpty())
		})
	}

	It("denies governed images, wherever they are named", func(ctx SpecContext) {
		d := deployment("argument", "llm", plainImage)
		d.Spec.Template.Spec.Containers[0].Args = []string{"--model", "oci://registry.example.com/governed/new:1"}
		Expect(w.client.Create(ctx, d)).To(MatchError(ContainSubstring("[Unlicensed]: argument of container \"server\" (spec.template.spec.containers[0].args[1])")))
	})

	It("lets old workloads be scaled, labelled, held by finalizers and deleted, but not change to another model", func(ctx SpecContext) {
		change := func(how func()) error {
			before := old.DeepCopy()
			how()
			return w.client.Patch(ctx, old, client.MergeFrom(before))
		}
		Expect(change(func() { old.Spec.Replicas = ptr.To[int32](0) })).To(Succeed())
		scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 3}}
		Expect(w.client.SubResource("scale").Update(ctx, old, client.WithSubResourceBody(scale))).To(Succeed())
		Expect(w.client.Get(ctx, client.ObjectKeyFromObject(old), old)).To(Succeed())
		Expect(change(func() {
			controllerutil.AddFinalizer(old, "example.com/wait")
			old.Labels = map[string]string{"team": "ml"}
		})).To(Succeed())
		Expect(change(func() { old.Spec.Template.Spec.Containers[0].Image = plainImage })).To(Succeed())
		Expect(change(func() { old.Spec.Template.Spec.Containers[0].Image = codeImage })).To(MatchError(ContainSubstring("deployment denied [NoGrant]")))
		Expect(w.client.Get(ctx, client.ObjectKeyFromObject(old), old)).To(Succeed())
		Expect(change(func() {
			old.Spec.Replicas = ptr.To[int32](0)
			old.Spec.Template.Spec.Containers[0].Image = codeImage
		})).To(MatchError(ContainSubstring("deployment denied [NoGrant]")), "scaling down does not carry an image in")
		Expect(w.client.Delete(ctx, old)).To(Succeed())
		Expect(w.client.Get(ctx, client.ObjectKeyFromObject(old), old)).To(Succeed())
		before := w.server.reviews.Load()
		Expect(change(func() { old.Spec.Template.Spec.Containers[0].Image = codeImage })).To(Succeed(), "it is being deleted")
		Expect(w.server.reviews.Load()).To(Equal(before), "nobody was asked")
		Expect(change(func() { controllerutil.RemoveFinalizer(old, "example.com/wait") })).To(Succeed())
	})

	It("is asked neither about what controllers made nor about metadata and status", func(ctx SpecContext) {
		d := deployment("owner", "llm", chatImage)
		Expect(w.client.Create(ctx, d)).To(Succeed())
		before := w.server.reviews.Load()
		rs := workloadKinds("owned", "llm", codeImage)["replicaset"]
		Expect(controllerutil.SetControllerReference(d, rs, testScheme)).To(Succeed())
		Expect(w.client.Create(ctx, rs)).To(Succeed())
		patch := client.MergeFrom(d.DeepCopy())
		d.Labels = map[string]string{"team": "ml"}
		Expect(w.client.Patch(ctx, d, patch)).To(Succeed())
		d.Status.ObservedGeneration = 1
		Expect(w.client.Status().Update(ctx, d)).To(Succeed())
		Expect(w.server.reviews.Load()).To(Equal(before))
		rs = workloadKinds("not-owned", "llm", codeImage)["replicaset"]
		Expect(controllerutil.SetOwnerReference(d, rs, testScheme)).To(Succeed())
		Expect(w.client.Create(ctx, rs)).To(MatchError(ContainSubstring("replicaset denied")))
	})

	It("follows custom resources as they come and go", func(ctx SpecContext) {
		builtIn := []string{"", "apps", "batch"}
		Expect(w.rules(ctx)).To(HaveLen(len(builtIn)))
		crd := definition("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices", "Namespaced")
		Expect(w.client.Create(ctx, crd)).To(Succeed())
		Expect(w.client.Create(ctx, definition("other.example.com", "v1", "Thing", "things", "Namespaced"))).To(Succeed())
		Eventually(func() map[string][]string { return w.rules(ctx) }).Should(HaveKeyWithValue("serving.kserve.io", []string{"inferenceservices"}))

		var warnings []string
		Eventually(func(g Gomega) {
			w.heard.take()
			name := fmt.Sprintf("chat-%d", time.Now().UnixNano())
			g.Expect(w.client.Create(ctx, inferenceService(name, "llm", "oci://"+codeImage))).To(Succeed())
			warnings = w.heard.take()
			g.Expect(warnings).NotTo(BeEmpty())
		}).WithPolling(200 * time.Millisecond).Should(Succeed())
		Expect(warnings[0]).To(HavePrefix("modelrights: pods of this InferenceService will be denied [NoGrant]: spec.predictor.model.storageUri: image"))
		Expect(warnings[1]).To(ContainSubstring(`ask someone who may "grant" on modellicenses/acme-code`))

		chat := inferenceService("chat", "llm", "oci://"+chatImage)
		Expect(w.client.Create(ctx, chat)).To(Succeed())
		Expect(w.heard.take()).To(BeEmpty(), "it is entitled")
		patch := client.MergeFrom(chat.DeepCopy())
		Expect(unstructured.SetNestedField(chat.Object, "oci://"+codeImage, "spec", "predictor", "model", "storageUri")).To(Succeed())
		Expect(w.client.Patch(ctx, chat, patch)).To(Succeed())
		Expect(w.heard.take()).NotTo(BeEmpty())
		before := w.server.reviews.Load()
		patch = client.MergeFrom(chat.DeepCopy())
		chat.SetLabels(map[string]string{"team": "ml"})
		Expect(w.client.Patch(ctx, chat, patch)).To(Succeed())
		Expect(w.server.reviews.Load()).To(Equal(before), "labels alone were written")

		Expect(w.client.Delete(ctx, crd)).To(Succeed())
		Eventually(func() map[string][]string { return w.rules(ctx) }).ShouldNot(HaveKey("serving.kserve.io"))
		Expect(w.rules(ctx)).NotTo(HaveKey("other.example.com"))
	}, SpecTimeout(specTimeout))

	It("asks about an object by the version in which it was written, whatever that is", func(ctx SpecContext) {
		crd := definition("kaito.sh", "v1gamma9", "Workspace", "workspaces", "Namespaced")
		Expect(w.client.Create(ctx, crd)).To(Succeed())
		Eventually(func(g Gomega) {
			w.heard.take()
			g.Expect(w.client.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "kaito.sh/v1gamma9", "kind": "Workspace", "metadata": map[string]any{"generateName": "tune-", "namespace": "ml-prod"},
				"inference": map[string]any{"preset": map[string]any{"presetOptions": map[string]any{"image": codeImage}}},
			}})).To(Succeed())
			g.Expect(w.heard.take()).To(ContainElement(ContainSubstring("inference.preset.presetOptions.image")))
		}).WithPolling(200 * time.Millisecond).Should(Succeed())
	}, SpecTimeout(specTimeout))

	It("is in nobody's way while it is slow or away", func(ctx SpecContext) {
		w.rights.block.Store(true)
		DeferCleanup(func() { w.rights.block.Store(false); w.server.away.Store(false) })
		Expect(w.client.Create(ctx, deployment("while-slow", "llm", codeImage))).To(Succeed())
		Expect(w.heard.take()).To(ContainElement(ContainSubstring("could not be checked now [LookupFailed]")))
		w.rights.block.Store(false)
		w.server.away.Store(true)
		for kind, object := range workloadKinds("while-away", "llm", codeImage) {
			Expect(w.client.Create(ctx, object)).To(Succeed(), kind)
		}
	}, SpecTimeout(specTimeout))
})
