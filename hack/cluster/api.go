package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// httpClient calls with one of the cluster's client certificates and trusts one of its authorities. With no authority
// the server is not verified: some parts make their own certificate, and only their health is asked, over loopback.
func (c *Cluster) httpClient(authority, certificate string) (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(c.PKI(certificate+".crt"), c.PKI(certificate+".key"))
	if err != nil {
		return nil, fmt.Errorf("load certificate %s: %w", certificate, err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if authority == "" {
		config.InsecureSkipVerify = true
	} else {
		trusted, err := os.ReadFile(c.PKI(authority + ".crt"))
		if err != nil {
			return nil, fmt.Errorf("load authority %s: %w", authority, err)
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(trusted)
	}
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
	}, nil
}

// probe asks a health endpoint of a part over TLS.
func (c *Cluster) probe(ctx context.Context, authority, certificate, address string, port int, path string) error {
	client, err := c.httpClient(authority, certificate)
	if err != nil {
		return err
	}
	return probeHTTP(ctx, client, fmt.Sprintf("https://%s:%d%s", address, port, path))
}

func probeHTTP(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// call makes one request to the API server as the administrator and decodes the answer, if it is wanted.
func (c *Cluster) call(ctx context.Context, method, path, contentType string, body []byte, answer any) error {
	client, err := c.httpClient("ca", "admin")
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, c.Server()+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, content)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(content, answer)
}

// conditions is what node and Deployment have in common.
type conditions struct {
	Status struct {
		Conditions []struct{ Type, Status, Reason, Message string } `json:"conditions"`
	} `json:"status"`
}

// holds returns nil if the object has the condition, and else what the object says about it.
func (c *Cluster) holds(ctx context.Context, path, condition string) error {
	var object conditions
	if err := c.call(ctx, http.MethodGet, path, "", nil, &object); err != nil {
		return err
	}
	for _, current := range object.Status.Conditions {
		if current.Type != condition {
			continue
		}
		if current.Status == "True" {
			return nil
		}
		return fmt.Errorf("%s is %s: %s: %s", condition, current.Status, current.Reason, current.Message)
	}
	return fmt.Errorf("no condition %s yet", condition)
}

func (c *Cluster) nodeReady(ctx context.Context) error {
	return c.holds(ctx, "/api/v1/nodes/"+c.NodeName, "Ready")
}

func (c *Cluster) dnsAvailable(ctx context.Context) error {
	return c.holds(ctx, "/apis/apps/v1/namespaces/kube-system/deployments/coredns", "Available")
}

// accountsReady says whether pods can be created: each namespace needs its service account for that.
func (c *Cluster) accountsReady(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/api/v1/namespaces/default/serviceaccounts/default", "", nil, nil)
}

// labelNode gives the node the role that `kubectl get nodes` shows. Kubelet may not give itself this label.
func (c *Cluster) labelNode(ctx context.Context) error {
	patch := []byte(`{"metadata":{"labels":{"node-role.kubernetes.io/worker":""}}}`)
	return c.call(ctx, http.MethodPatch, "/api/v1/nodes/"+c.NodeName, "application/strategic-merge-patch+json", patch, nil)
}
