package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap/zapcore"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/internal/workloads"
)

// How the serving certificate comes about.
const (
	certsSelf     = "self"
	certsExternal = "external"
)

// options are the operator's flags.
type options struct {
	namespace            string
	serviceAccount       string
	nodeNamespace        string
	nodeServiceAccount   string
	governedRepositories []string
	certManagement       string
	webhookService       string
	keyServiceService    string
	exemptNamespaces     []string
	webhookPort          int
	keyServicePort       int
	metricsAddress       string
	pprofAddress         string
	probeAddress         string
	leaderElect          bool
	workloadTable        string
	denyCustomWorkloads  bool
	resolveInterval      time.Duration
	registryCAFile       string
	plainHTTPRegistries  []string
	logLevel             string
	version              bool
}

func (o *options) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.namespace, "operator-namespace", os.Getenv("POD_NAMESPACE"), "namespace of the operator, of key Secrets and of the serving certificate")
	f.StringVar(&o.serviceAccount, "operator-service-account", "modelrights-operator", "service account of the operator, which alone may remove the scheduling gate from pods")
	f.StringVar(&o.nodeNamespace, "node-namespace", "modelrights-node", "namespace of the node driver, which gets the CA")
	f.StringVar(&o.nodeServiceAccount, "node-service-account", "modelrights-node", "service account of the node driver")
	f.StringArrayVar(&o.governedRepositories, "governed-repository", nil, "repository whose images need a licence, HOST/PATH; a path component may be * or **. May be repeated")
	f.StringVar(&o.certManagement, "cert-management", certsSelf, "who makes the serving certificate: self, or external (cert-manager)")
	f.StringVar(&o.webhookService, "webhook-service", "modelrights-webhook", "Service of the webhooks, for the certificate")
	f.StringVar(&o.keyServiceService, "key-service-service", "modelrights-keyservice", "Service of the key service, for the certificate")
	f.StringArrayVar(&o.exemptNamespaces, "exempt-namespace", nil, "namespace whose pods and workloads are not decided on at admission, besides kube-system, the operator's and the node driver's. May be repeated")
	f.IntVar(&o.webhookPort, "webhook-port", 9443, "port of the webhooks")
	f.IntVar(&o.keyServicePort, "key-service-port", 9444, "port of the key service")
	f.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "address of the metrics; 0 turns them off")
	f.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", "address of the probes")
	f.BoolVar(&o.leaderElect, "leader-elect", true, "let one replica at a time run the controllers")
	f.StringVar(&o.workloadTable, "workload-table", "", "what to know of further kinds of workloads, in YAML or JSON: see docs/reference/workloads-table.md")
	f.BoolVar(&o.denyCustomWorkloads, "deny-custom-workloads", false, "deny custom resources whose pods would be denied, rather than warn")
	f.StringVar(&o.pprofAddress, "pprof-bind-address", "", "loopback address of Go's profiles, for development, such as 127.0.0.1:6060; empty turns them off")
	f.DurationVar(&o.resolveInterval, "resolve-interval", 10*time.Minute, "how often registries are asked what the tags of licensed repositories stand for; at least 10s")
	f.StringVar(&o.registryCAFile, "registry-ca-file", "", "file with certificates, in PEM, of further authorities that registries' certificates may come from")
	f.StringArrayVar(&o.plainHTTPRegistries, "plain-http-registry", nil, "registry, HOST:PORT, that is asked without TLS, and without credentials. May be repeated")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info or error")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
}

// validate says which flag is wrong and what it takes.
func (o *options) validate() error {
	var errs []error
	if o.namespace == "" {
		errs = append(errs, errors.New("--operator-namespace is required where POD_NAMESPACE is not set"))
	}
	if o.serviceAccount == "" {
		errs = append(errs, errors.New("--operator-service-account must not be empty: it says whose removal of scheduling gates is the operator's"))
	}
	if o.nodeNamespace == "" || o.nodeServiceAccount == "" {
		errs = append(errs, errors.New("--node-namespace and --node-service-account must not be empty: they say whose calls the key service answers"))
	}
	if o.certManagement != certsSelf && o.certManagement != certsExternal {
		errs = append(errs, fmt.Errorf("--cert-management is %q: it must be %s or %s", o.certManagement, certsSelf, certsExternal))
	}
	if _, err := workloads.ParseTable([]byte(o.workloadTable)); err != nil {
		errs = append(errs, fmt.Errorf("--workload-table: %w", err))
	}
	if o.pprofAddress != "" && !isLoopback(o.pprofAddress) {
		errs = append(errs, fmt.Errorf("--pprof-bind-address is %q: it must be an IP address of the loopback interface and a port, since anybody who reaches it can slow the operator down", o.pprofAddress))
	}
	if o.resolveInterval < 10*time.Second {
		errs = append(errs, fmt.Errorf("--resolve-interval is %s: it must be 10s at least", o.resolveInterval))
	}
	if _, ok := logLevels[o.logLevel]; !ok {
		errs = append(errs, fmt.Errorf("--log-level is %q: it must be debug, info or error", o.logLevel))
	}
	return errors.Join(errs...)
}

// workloads is the table that comes with modelrights, and before it what the flag says. The flag is valid.
func (o *options) workloads() workloads.Table {
	further, _ := workloads.ParseTable([]byte(o.workloadTable))
	return workloads.Default().With(further)
}

// user is the user name of the operator's account, as API servers have it.
func (o *options) user() string {
	return "system:serviceaccount:" + o.namespace + ":" + o.serviceAccount
}

// exempt are the namespaces whose pods and workloads are not decided on at admission, besides kube-system.
func (o *options) exempt() []string {
	return append([]string{o.namespace, o.nodeNamespace}, o.exemptNamespaces...)
}

// protected are the namespaces whose pods are never ended by us: those that are exempt, and kube-system.
func (o *options) protected() []string {
	return append([]string{metav1.NamespaceSystem}, o.exempt()...)
}

func isLoopback(address string) bool {
	a, err := netip.ParseAddrPort(address)
	return err == nil && a.Addr().IsLoopback()
}

var logLevels = map[string]zapcore.Level{
	"debug": zapcore.DebugLevel,
	"info":  zapcore.InfoLevel,
	"error": zapcore.ErrorLevel,
}

func (o *options) zapLevel() zapcore.Level { return logLevels[o.logLevel] }
