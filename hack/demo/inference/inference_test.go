package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelrights.dev/modelrights/hack/demo/safetensors"
	"modelrights.dev/modelrights/internal/seal"
)

// tensors make a network of two inputs, two hidden values and two classes that can be computed by hand.
var tensors = []safetensors.Tensor{
	{Name: "hidden.weight", Shape: []int{2, 2}, Data: []float32{1, 0, 0, -1}},
	{Name: "hidden.bias", Shape: []int{2}, Data: []float32{0, 0}},
	{Name: "output.weight", Shape: []int{2, 2}, Data: []float32{1, 0, 0, 1}},
	{Name: "output.bias", Shape: []int{2}, Data: []float32{0, 0.5}},
}

func TestServesTheOpenedModel(t *testing.T) {
	logged := captureLog(t)
	dir, keyFile, weights, key := sealedModel(t, tensors)
	model, err := LoadModel(dir, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(Handler(model))
	defer server.Close()

	var about modelAnswer
	get(t, server.URL+"/v1/model", &about)
	sum := sha256.Sum256(weights)
	if about.SHA256 != hex.EncodeToString(sum[:]) || about.Model != "tiny" || about.Version != "1" || len(about.Tensors) != 4 {
		t.Errorf("got %+v", about)
	}

	// "b" counts at input (98*257+0)%2 = 0: the hidden values are 1 and 0, the outputs 1 and 0.5.
	response, err := http.Post(server.URL+"/v1/predict", "application/json", strings.NewReader(`{"text":"b"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var predicted predictAnswer
	if err := json.NewDecoder(response.Body).Decode(&predicted); err != nil {
		t.Fatal(err)
	}
	want := 1 / (1 + math.Exp(-0.5))
	if predicted.Class != 0 || math.Abs(predicted.Probabilities[0]-want) > 1e-6 {
		t.Errorf("got %+v, want class 0 with %f", predicted, want)
	}

	for path, status := range map[string]int{"/healthz": http.StatusOK, "/key": http.StatusNotFound, "/v1/predict": http.StatusMethodNotAllowed} {
		response, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status {
			t.Errorf("GET %s: got %d, want %d", path, response.StatusCode, status)
		}
	}
	response, err = http.Post(server.URL+"/v1/predict", "application/json", strings.NewReader("nonsense"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("nonsense: got %d", response.StatusCode)
	}
	if strings.Contains(logged.String(), key) {
		t.Error("the key was logged")
	}
}

func TestLoadModelRefuses(t *testing.T) {
	_, otherKey, _, _ := sealedModel(t, tensors)
	for name, c := range map[string]struct {
		damage  func(t *testing.T, dir string)
		tensors []safetensors.Tensor
		keyFile string
		message string
	}{
		"wrong key":       {keyFile: otherKey, message: "not sealed for any"},
		"no key":          {keyFile: "/nonexistent", message: "no such file"},
		"weights cut off": {damage: func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, "w.age")) }, message: "open a sealed file"},
		"no weights":      {damage: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "w.age")) }, message: "no such file"},
		"no config":       {damage: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "config.json")) }, message: "no such file"},
		"half a config":   {damage: func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, "config.json")) }, message: "configuration"},
		"missing tensors": {tensors: tensors[:2], message: "do not make a network"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.tensors == nil {
				c.tensors = tensors
			}
			dir, keyFile, _, _ := sealedModel(t, c.tensors)
			if c.keyFile != "" {
				keyFile = c.keyFile
			}
			if c.damage != nil {
				c.damage(t, dir)
			}
			if _, err := LoadModel(dir, keyFile); err == nil || !strings.Contains(err.Error(), c.message) {
				t.Errorf("got error %v, want %q", err, c.message)
			}
		})
	}
}

func TestRunWithoutKeyFileSaysSo(t *testing.T) {
	t.Setenv(keyFileVariable, "")
	if err := run(t.Context(), t.TempDir(), "127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("got %v", err)
	}
}

// sealedModel writes a sealed model and its key, and returns where, and what they hold.
func sealedModel(t *testing.T, tensors []safetensors.Tensor) (dir, keyFile string, weights []byte, keyText string) {
	t.Helper()
	dir = t.TempDir()
	weights, err := safetensors.Encode(tensors, nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	if err := seal.Seal(&sealed, bytes.NewReader(weights), key.Recipient()); err != nil {
		t.Fatal(err)
	}
	keyFile = filepath.Join(t.TempDir(), "key")
	for file, content := range map[string]string{
		keyFile:                           key.String() + "\n",
		filepath.Join(dir, "w.age"):       sealed.String(),
		filepath.Join(dir, "config.json"): `{"name":"tiny","version":"1","weights":"w.age"}`,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, keyFile, weights, key.String()
}

func get(t *testing.T, url string, into any) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func captureLog(t *testing.T) *bytes.Buffer {
	var logged bytes.Buffer
	log.SetOutput(io.MultiWriter(&logged, os.Stderr))
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	return &logged
}

func truncate(t *testing.T, file string) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, info.Size()-3); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}
