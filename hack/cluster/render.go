package main

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/template"
)

//go:embed templates
var templates embed.FS

// values is what the templates may use.
type values struct {
	Settings                   Settings
	Layout                     Layout
	PauseImage, CoreDNSImage   string
	CNIBin, Runc               string
	Snapshotter, Architecture  string
	AppArmor                   bool
	User, CA, Certificate, Key string
}

// host is what `up` found out about the machine for the configuration of the node.
type host struct {
	runc, cniBin, snapshotter string
	appArmor                  bool
}

func newValues(s Settings, l Layout, h host) values {
	return values{
		Settings: s, Layout: l,
		PauseImage: pauseImage, CoreDNSImage: corednsImage,
		CNIBin: h.cniBin, Runc: h.runc,
		Snapshotter: h.snapshotter, AppArmor: h.appArmor,
		Architecture: runtime.GOARCH,
	}
}

// render fills in one template.
func render(name string, v values) ([]byte, error) {
	parsed, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"quote": shellQuote}).ParseFS(templates, "templates/"+name)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// shellQuote makes a word of any text for a POSIX shell.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// writeConfig renders all configuration, kubeconfigs last, since they hold certificates that must be there by then.
func writeConfig(v values) error {
	l := v.Layout
	files := map[string]string{"coredns.yaml": l.Config("coredns.yaml"), "env": l.EnvFile()}
	if v.Settings.NodeParts {
		files["containerd.toml"] = l.Config("containerd.toml")
		files["hosts.toml"] = filepath.Join(l.Config("certs.d"), v.Settings.Registry(), "hosts.toml")
		files["cni.conflist"] = filepath.Join(l.Config("cni"), "10-pods.conflist")
		files["kubelet.yaml"] = l.Config("kubelet.yaml")
		files["kube-proxy.yaml"] = l.Config("kube-proxy.yaml")
	}
	for name, target := range files {
		content, err := render(name, v)
		if err != nil {
			return err
		}
		if err := writeFile(target, content, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", target, err)
		}
	}
	for user, file := range kubeconfigs(l, v.Settings) {
		if err := writeKubeconfig(user, file, v); err != nil {
			return err
		}
	}
	return nil
}

// kubeconfigs says which certificate's owner gets a kubeconfig, and where.
func kubeconfigs(l Layout, s Settings) map[string]string {
	files := map[string]string{
		"admin":                   l.Kubeconfig(),
		"kube-controller-manager": l.Config("kube-controller-manager.kubeconfig"),
		"kube-scheduler":          l.Config("kube-scheduler.kubeconfig"),
	}
	if s.NodeParts {
		files["kubelet"] = l.Config("kubelet.kubeconfig")
		files["kube-proxy"] = l.Config("kube-proxy.kubeconfig")
	}
	return files
}

func writeKubeconfig(user, file string, v values) error {
	v.User = user
	for source, target := range map[string]*string{"ca.crt": &v.CA, user + ".crt": &v.Certificate, user + ".key": &v.Key} {
		content, err := os.ReadFile(v.Layout.PKI(source))
		if err != nil {
			return fmt.Errorf("kubeconfig of %s: %w", user, err)
		}
		*target = base64.StdEncoding.EncodeToString(content)
	}
	content, err := render("kubeconfig", v)
	if err != nil {
		return err
	}
	if err := writeFile(file, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
