package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// Target is what an attacker is after: the key of a licence, in the name of an entitled pod.
type Target struct {
	URL, Tokens, License string
	Namespace, Pod, UID  string
}

// Outcome is what came of one call.
type Outcome struct {
	// Status is the HTTP status, 0 where no answer came.
	Status int `json:"status"`
	// Reason is the service's reason.
	Reason string `json:"reason"`
	// Files is how many files the answer held.
	Files int `json:"files"`
	// Error is set where no answer came.
	Error string `json:"error,omitempty"`
}

// Attack calls the key service with everything that a tenant can lay hands on: his own tokens, of any audience that he
// likes, and the names of somebody else's pod.
func Attack(ctx context.Context, target Target) map[string]Outcome {
	token := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(target.Tokens, name))
		return strings.TrimSpace(string(text))
	}
	// Who attacks does not care whom he talks to.
	client := &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	outcomes := map[string]Outcome{}
	for name, tokens := range map[string]struct{ bearer, pod string }{
		"no token at all":                    {"", ""},
		"no bearer, own pod token":           {"", token("pod")},
		"own pod token as bearer and pod":    {token("pod"), token("pod")},
		"own token of the driver's audience": {token("driver"), token("pod")},
		"driver's audience for both":         {token("driver"), token("driver")},
		"token for the API server":           {token("api"), token("pod")},
		"bearer without a pod token":         {token("driver"), ""},
		"forged token":                       {forge(token("driver")), token("pod")},
	} {
		outcomes[name] = call(ctx, client, target, tokens.bearer, tokens.pod)
	}
	return outcomes
}

func call(ctx context.Context, client *http.Client, target Target, bearer, podToken string) Outcome {
	body, err := json.Marshal(protocol.ReleaseRequest{
		PodToken: podToken,
		Volume: protocol.Volume{
			PodNamespace: target.Namespace, PodName: target.Pod, PodUID: target.UID,
			License: target.License, Handle: "attack",
		},
	})
	if err != nil {
		return Outcome{Error: err.Error()}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.URL+protocol.ReleasePath, bytes.NewReader(body))
	if err != nil {
		return Outcome{Error: err.Error()}
	}
	request.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := client.Do(request)
	if err != nil {
		return Outcome{Error: err.Error()}
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return Outcome{Error: err.Error()}
	}
	var answer struct {
		Reason string            `json:"reason"`
		Files  map[string][]byte `json:"files"`
	}
	_ = json.Unmarshal(text, &answer)
	return Outcome{Status: response.StatusCode, Reason: answer.Reason, Files: len(answer.Files)}
}

// forge changes the last part of a token, its signature.
func forge(token string) string {
	if i := strings.LastIndex(token, "."); i >= 0 {
		return token[:i+1] + strings.Map(func(r rune) rune {
			if r == 'A' {
				return 'B'
			}
			return 'A'
		}, token[i+1:])
	}
	return token
}
