package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/servingcert"
	"modelrights.dev/modelrights/test/bench/cluster"
)

const driverAccount = "modelrights-node"

// addressOf is the i-th driver's. The key service bounds what comes from one address as long as it does not know who calls,
// so drivers that shared one would be refused. All of 127.0.0.0/8 is this machine's on Linux, without any preparation.
func addressOf(i int) net.IP { return net.IPv4(127, 64, byte(i>>8), byte(i)) }

// driver is the node driver of one node, as the key service sees it: a token that is bound to a pod on that node, an address
// and connections of its own.
type driver struct {
	token  string
	client *http.Client
}

// drivers makes one for each node.
func (b *bench) drivers(ctx context.Context) ([]driver, error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.NodeNamespace, Name: driverAccount}}
	if err := b.plane.Create(ctx, account); err != nil {
		return nil, err
	}
	var bundle corev1.ConfigMap
	if err := b.plane.Client.Get(ctx, client.ObjectKey{Namespace: cluster.NodeNamespace, Name: servingcert.BundleName}, &bundle); err != nil {
		return nil, fmt.Errorf("CAs of the key service: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(bundle.Data["ca.crt"])) {
		return nil, errors.New("there is no CA of the key service")
	}
	all := make([]driver, b.plan.Nodes)
	for i := range all {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: cluster.NodeNamespace, Name: fmt.Sprintf("%s-%04d", driverAccount, i)},
			Spec: corev1.PodSpec{
				NodeName: nodeName(i), ServiceAccountName: driverAccount, AutomountServiceAccountToken: ptr.To(false),
				Containers: []corev1.Container{{Name: "driver", Image: cluster.Registry + "/platform/driver:1"}},
			},
		}
		if err := b.plane.Client.Create(ctx, pod); err != nil {
			return nil, fmt.Errorf("pod of the driver: %w", err)
		}
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{protocol.AudienceDriver}, ExpirationSeconds: ptr.To(int64(3600)),
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
		}}
		if err := b.plane.Client.SubResource("token").Create(ctx, account, request); err != nil {
			return nil, fmt.Errorf("token of the driver: %w", err)
		}
		all[i] = driver{token: request.Status.Token, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "modelrights-keyservice." + cluster.OperatorNamespace + ".svc",
			},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: addressOf(i)}}
				return dialer.DialContext(ctx, network, b.operator.KeyService)
			},
			MaxIdleConnsPerHost: protocol.MaxCallsPerNode, IdleConnTimeout: 5 * time.Minute,
		}}}
	}
	return all, nil
}

// renew asks for a longer lease of a pod. A status other than 200 is an *unanswered.
func (d *driver) renew(ctx context.Context, pod *heldPod) (*protocol.RenewResponse, error) {
	body, err := json.Marshal(protocol.RenewRequest{Volume: protocol.Volume{
		PodNamespace: pod.namespace, PodName: pod.name, PodUID: string(pod.uid), License: pod.license, Handle: "bench",
	}})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://key-service"+protocol.RenewPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+d.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := d.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, &unanswered{response.StatusCode, string(text)}
	}
	answer := &protocol.RenewResponse{}
	return answer, json.Unmarshal(text, answer)
}

// unanswered is an answer of the key service that decides nothing.
type unanswered struct {
	status int
	text   string
}

func (u *unanswered) Error() string {
	return fmt.Sprintf("%d %s: %.200s", u.status, http.StatusText(u.status), u.text)
}
