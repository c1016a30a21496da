package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/internal/servingcert"
	"modelrights.dev/modelrights/internal/trustedtime"
	"modelrights.dev/modelrights/internal/version"
	"modelrights.dev/modelrights/internal/webhookpath"
	"modelrights.dev/modelrights/webhooks"
)

const component = "modelrights-operator"

// gracefulShutdown is longer than the audit log's flush and the key service's last calls.
const gracefulShutdown = 25 * time.Second

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return scheme
}

// newManager wires the operator: the snapshot and the log first, then what asks and writes them.
func newManager(ctx context.Context, o options) (manager.Manager, error) {
	certificates, err := servingcert.NewMetrics(metrics.Registry)
	if err != nil {
		return nil, fmt.Errorf("registering the metrics of certificates: %w", err)
	}
	keeper := servingcert.NewKeeper(servingcert.KeeperOptions{
		Policy: certificatePolicy(o), Clock: clock.RealClock{}, Log: ctrl.Log.WithName("servingcert"), Metrics: certificates,
	})
	mgr, err := ctrl.NewManager(ctrl.GetConfigOrDie(), managerOptions(o, keeper))
	if err != nil {
		return nil, fmt.Errorf("creating the manager: %w", err)
	}
	now, err := newClock(ctx, mgr)
	if err != nil {
		return nil, err
	}
	ready := &readiness{}
	if err := addCertificates(ctx, mgr, o, keeper, certificates, ready); err != nil {
		return nil, err
	}
	store, err := addStore(ctx, mgr, o, ready)
	if err != nil {
		return nil, err
	}
	log, err := addAuditLog(mgr, now)
	if err != nil {
		return nil, err
	}
	source := keys.NewSecretSource(mgr.GetAPIReader(), o.namespace)
	recorder := mgr.GetEventRecorder(component)
	seats, err := addSeatView(ctx, mgr, ready)
	if err != nil {
		return nil, err
	}
	keeping, err := newSeatKeeping(mgr, now, seats)
	if err != nil {
		return nil, err
	}
	coverage, err := addWebhooks(ctx, mgr, o, now, keeper, store, seats, webhooks.NewReporter(log, recorder), ready)
	if err != nil {
		return nil, err
	}
	if err := addExec(ctx, mgr, o, now, keeper, store, seats, log); err != nil {
		return nil, err
	}
	if err := addKeyService(mgr, o, now, keeper, log, source, store, keeping, ready); err != nil {
		return nil, err
	}
	if err := addControllers(ctx, mgr, o, now, store, log, source, coverage); err != nil {
		return nil, err
	}
	if err := addPods(mgr, now, keeping, store, log); err != nil {
		return nil, err
	}
	if err := addSeatEnds(ctx, mgr, o, now, keeping, log); err != nil {
		return nil, err
	}
	if err := addRevocation(mgr, o, now, store, keeping.view, log); err != nil {
		return nil, err
	}
	if err := mgr.AddHealthzCheck("alive", func(*http.Request) error { return nil }); err != nil {
		return nil, fmt.Errorf("adding the health check: %w", err)
	}
	if err := ready.register(mgr); err != nil {
		return nil, fmt.Errorf("adding a readiness check: %w", err)
	}
	return mgr, nil
}

func managerOptions(o options, keeper *servingcert.Keeper) manager.Options {
	shutdown := gracefulShutdown
	return manager.Options{
		Scheme: newScheme(),
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				controllers.CustomResourceDefinitions(): {Transform: controllers.TrimCRD},
				&corev1.Pod{}:                           {Transform: controllers.TrimPod},
				&v1alpha1.ModelGrant{}:                  {Transform: controllers.TrimGrant},
				&corev1.Node{}:                          {Transform: controllers.TrimNode},
				&corev1.Secret{}:                        {Namespaces: map[string]cache.Config{o.namespace: {}}, Transform: servingcert.TrimSecret},
				&corev1.ConfigMap{}:                     {Namespaces: bundleNamespaces(o), Field: fields.OneTermEqualSelector(metav1.ObjectNameField, servingcert.BundleName)},
				&admissionregistrationv1.MutatingWebhookConfiguration{}:   {Field: fields.OneTermEqualSelector(metav1.ObjectNameField, admissionconfig.Pods)},
				&admissionregistrationv1.ValidatingWebhookConfiguration{}: {Field: fields.OneTermEqualSelector(metav1.ObjectNameField, admissionconfig.Pods)},
			},
		},
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:        o.probeAddress,
		PprofBindAddress:              o.pprofAddress,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              component,
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       &shutdown,
		WebhookServer: webhook.NewServer(webhook.Options{
			Port: o.webhookPort,
			TLSOpts: []func(*tls.Config){func(c *tls.Config) {
				c.MinVersion = tls.VersionTLS13
				c.GetCertificate = keeper.GetCertificate
			}},
		}),
	}
}

// bundleNamespaces are those whose ConfigMap of CAs the operator keeps.
func bundleNamespaces(o options) map[string]cache.Config {
	namespaces := map[string]cache.Config{o.nodeNamespace: {}}
	if o.certManagement == certsExternal {
		namespaces[o.namespace] = cache.Config{}
	}
	return namespaces
}

func certificatePolicy(o options) servingcert.Policy {
	return servingcert.DefaultPolicy(servingcert.Names{Namespace: o.namespace, Services: []string{o.webhookService, o.keyServiceService}})
}

// addCertificates makes sure that there is a certificate to serve with, and that the node driver can trust it.
func addCertificates(ctx context.Context, mgr manager.Manager, o options, keeper *servingcert.Keeper, counts *servingcert.Metrics, ready *readiness) error {
	policy, external := certificatePolicy(o), o.certManagement == certsExternal
	if err := keeper.Watch(ctx, mgr.GetCache()); err != nil {
		return err
	}
	ready.add("certificate", keeper.Ready)
	bundles := &controllers.CAReconciler{Client: mgr.GetClient(), NodeNamespace: o.nodeNamespace, Policy: policy, External: external, Clock: clock.RealClock{}}
	if err := bundles.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the CA controller: %w", err)
	}
	if external {
		return keeper.WatchCarried(ctx, mgr.GetCache())
	}
	consumers := &controllers.CAConsumers{
		Reader: mgr.GetAPIReader(), NodeNamespace: o.nodeNamespace,
		Mutating: []string{admissionconfig.Pods}, Validating: []string{admissionconfig.Pods, admissionconfig.Workloads, admissionconfig.Exec},
	}
	err := mgr.Add(servingcert.NewAuthority(servingcert.AuthorityOptions{
		Policy: policy, Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(), Keeper: keeper, Published: consumers.Trust,
		Clock: clock.RealClock{}, Log: ctrl.Log.WithName("servingcert"), Metrics: counts,
	}))
	if err != nil {
		return fmt.Errorf("adding the serving certificate's authority: %w", err)
	}
	return nil
}

// addStore keeps the snapshot; a replica that has not read every licence and grant yet is not ready.
func addStore(ctx context.Context, mgr manager.Manager, o options, ready *readiness) (*rights.Store, error) {
	store, err := rights.NewStore(o.governedRepositories, mgr.GetCache(), mgr.GetAPIReader())
	if err != nil {
		return nil, fmt.Errorf("--governed-repository: %w", err)
	}
	if err := controllers.RegisterLicenseEnds(metrics.Registry, store); err != nil {
		return nil, err
	}
	waitForSync, err := store.Watch(ctx, mgr.GetCache())
	if err != nil {
		return nil, err
	}
	if err := ready.addSync(mgr, "rights-synced", waitForSync); err != nil {
		return nil, fmt.Errorf("adding the store: %w", err)
	}
	return store, nil
}

// addSeatView shows every replica the seat ledgers, as the cache has them.
func addSeatView(ctx context.Context, mgr manager.Manager, ready *readiness) (*seatbook.View, error) {
	view := seatbook.NewView()
	waitForSync, err := view.Watch(ctx, mgr.GetCache())
	if err != nil {
		return nil, fmt.Errorf("watching the seat ledgers: %w", err)
	}
	if err := ready.addSync(mgr, "seats-synced", waitForSync); err != nil {
		return nil, fmt.Errorf("adding the view of the seat ledgers: %w", err)
	}
	return view, nil
}

// addWebhooks serves the webhooks under paths that only the API server is told, and keeps the configurations by which it
// is told so. What it returns knows which licences they cover.
func addWebhooks(ctx context.Context, mgr manager.Manager, o options, now *trustedtime.Clock, keeper *servingcert.Keeper, store *rights.Store, seats *seatbook.View, denials webhooks.Denials, ready *readiness) (controllers.Coverage, error) {
	secret, err := webhookpath.Ensure(ctx, mgr.GetAPIReader(), mgr.GetClient(), o.namespace)
	if err != nil {
		return nil, err
	}
	err = webhooks.Register(mgr.GetWebhookServer(), webhooks.Options{
		PathSecret:   secret,
		Rights:       store,
		Seats:        seats,
		OperatorUser: o.user(),
		Denials:      denials,
		Clock:        now,
		Later:        now.Held,
		Metrics:      metrics.Registry,
		Workloads:    webhooks.WorkloadOptions{Table: o.workloads(), DenyCustom: o.denyCustomWorkloads},
	})
	if err != nil {
		return nil, fmt.Errorf("registering the webhooks: %w", err)
	}
	rules := &controllers.WorkloadRules{Client: mgr.GetClient(), Groups: o.workloads().Groups()}
	if err := rules.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("adding the controller of the workloads' rules: %w", err)
	}
	configurations := &controllers.WebhookReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Rights: store, Certificates: keeper, Workloads: rules,
		Settings: admissionconfig.Settings{
			ServiceNamespace: o.namespace, ServiceName: o.webhookService,
			MutatePodsPath: webhooks.MutatePodsPath(secret), ValidatePodsPath: webhooks.ValidatePodsPath(secret),
			ValidateWorkloadsPath: webhooks.ValidateWorkloadsPath(secret),
			ExemptNamespaces:      o.exempt(),
			Operator:              o.user(),
		},
	}
	if err := configurations.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("adding the webhook configuration controller: %w", err)
	}
	ready.add("webhook", mgr.GetWebhookServer().StartedChecker())
	ready.add("webhook-configurations", configurations.Ready)
	return configurations, nil
}

func addAuditLog(mgr manager.Manager, now *trustedtime.Clock) (*audit.Log, error) {
	identity := os.Getenv("POD_NAME")
	if identity == "" {
		var err error
		if identity, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("naming this replica: set POD_NAME: %w", err)
		}
	}
	log, err := audit.New(audit.Options{
		Client:   mgr.GetClient(),
		Reader:   mgr.GetAPIReader(),
		Identity: identity,
		Stamped:  now.Stamped,
		Logger:   ctrl.Log.WithName("audit"),
	})
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(log); err != nil {
		return nil, fmt.Errorf("adding the audit log: %w", err)
	}
	log.Submit(audit.Entry{Type: audit.Started, Message: "modelrights " + version.Version + " began to write the log"})
	return log, nil
}

func addControllers(ctx context.Context, mgr manager.Manager, o options, now *trustedtime.Clock, store *rights.Store, log *audit.Log, source keys.Source, coverage controllers.Coverage) error {
	recorder := mgr.GetEventRecorder(component)
	grants := &controllers.GrantReconciler{Client: mgr.GetClient(), Audit: log, Events: recorder, Clock: now}
	if err := grants.SetupWithManager(ctx, mgr); err != nil {
		return fmt.Errorf("adding the grant controller: %w", err)
	}
	licenses := &controllers.LicenseReconciler{Client: mgr.GetClient(), Keys: source, Coverage: coverage, Namespace: o.namespace, Audit: log, Events: recorder, Clock: now}
	if err := licenses.SetupWithManager(ctx, mgr); err != nil {
		return fmt.Errorf("adding the licence controller: %w", err)
	}
	known, err := newRecognition(o)
	if err != nil {
		return err
	}
	if err := addImages(ctx, mgr, o, known); err != nil {
		return err
	}
	if err := addCopies(mgr, o, now, known, store, log); err != nil {
		return err
	}
	if err := (&controllers.AuditLogReconciler{Audit: log, Time: now, Events: recorder}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the audit log controller: %w", err)
	}
	return nil
}
