package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// etcd speaks the JSON form of etcd's own API, which its server offers beside gRPC.
type etcd struct {
	url    string
	client *http.Client
}

func newEtcd(url string) *etcd {
	transport := &http.Transport{MaxIdleConnsPerHost: Writers}
	return &etcd{url: url, client: &http.Client{Transport: transport}}
}

// pair is a key and its value.
type pair struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

func (e *etcd) Get(ctx context.Context, key string) ([]byte, error) {
	var answer struct {
		Pairs []pair `json:"kvs"`
	}
	if err := e.call(ctx, "range", map[string]any{"key": []byte(key)}, &answer); err != nil {
		return nil, err
	}
	if len(answer.Pairs) != 1 {
		return nil, fmt.Errorf("etcd has no %s", key)
	}
	return answer.Pairs[0].Value, nil
}

// put writes one pair. Several in one transaction would share a revision, which the API server's caches do not expect.
func (e *etcd) put(ctx context.Context, p pair) error { return e.call(ctx, "put", p, &struct{}{}) }

func (e *etcd) call(ctx context.Context, method string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/v3/kv/"+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := e.client.Do(request)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd: %s: %s", response.Status, text)
	}
	return json.Unmarshal(text, answer)
}
