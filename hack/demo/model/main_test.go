package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"modelrights.dev/modelrights/internal/seal"
)

func TestSealedModelOpensWithItsKey(t *testing.T) {
	out := t.TempDir()
	var said bytes.Buffer
	if err := run(out, "chat-7b", "2.1", &said); err != nil {
		t.Fatal(err)
	}
	keys, err := seal.LoadKeys(filepath.Join(out, "model.key"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := os.Open(filepath.Join(out, "model", weightsFile+seal.Suffix))
	if err != nil {
		t.Fatal(err)
	}
	defer sealed.Close()
	opened, err := seal.Open(sealed, keys...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(opened)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(out, weightsFile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the sealed weights are not the plain ones")
	}
	key, err := os.ReadFile(filepath.Join(out, "model.key"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(said.Bytes(), bytes.TrimSpace(key)) {
		t.Error("the key was printed")
	}
}

func TestWeightsAreTheSameAtEveryRun(t *testing.T) {
	one, err := makeWeights("chat-7b")
	if err != nil {
		t.Fatal(err)
	}
	two, err := makeWeights("chat-7b")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Error("two runs made different weights")
	}
}
