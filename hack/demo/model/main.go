// Command model makes what a model provider brings to the demo: a small model, its key, and the model sealed for that
// key. It writes into a directory:
//
//	weights.safetensors              the plain weights, the same at every run
//	model.key                        the model key, an age identity
//	model/weights.safetensors.age    the sealed weights
//	model/config.json                what the model is
//
// Only the directory model goes into the image.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"

	"modelrights.dev/modelrights/hack/demo/safetensors"
	"modelrights.dev/modelrights/internal/seal"
)

// The network's size: with 1024 inputs and 256 hidden values it takes about 1 MiB.
const (
	inputs  = 1024
	hidden  = 256
	classes = 8
)

const weightsFile = "weights.safetensors"

func main() {
	out := flag.String("out", "_output/demo", "`directory` to write to")
	name := flag.String("name", "chat-7b", "name of the model")
	version := flag.String("version", "2.1", "version of the model")
	flag.Parse()
	if err := run(*out, *name, *version, os.Stdout); err != nil {
		log.Fatalln("model:", err)
	}
}

func run(out, name, version string, stdout io.Writer) error {
	weights, err := makeWeights(name)
	if err != nil {
		return err
	}
	key, err := seal.GenerateKey()
	if err != nil {
		return err
	}
	var sealed bytes.Buffer
	if err := seal.Seal(&sealed, bytes.NewReader(weights), key.Recipient()); err != nil {
		return err
	}
	about, err := json.MarshalIndent(map[string]string{"name": name, "version": version, "weights": weightsFile + seal.Suffix}, "", "  ")
	if err != nil {
		return fmt.Errorf("write config.json: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(out, "model"), 0o755); err != nil {
		return err
	}
	for _, file := range []struct {
		name    string
		content []byte
		mode    os.FileMode
	}{
		{weightsFile, weights, 0o644},
		{"model.key", []byte(key.String() + "\n"), 0o600},
		{filepath.Join("model", weightsFile+seal.Suffix), sealed.Bytes(), 0o644},
		{filepath.Join("model", "config.json"), append(about, '\n'), 0o644},
	} {
		if err := os.WriteFile(filepath.Join(out, file.name), file.content, file.mode); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(stdout, "%s  %s, %d bytes\nsealed as %s, %d bytes, for\n%.60s…\n",
		fmt.Sprintf("%x", sha256.Sum256(weights)), weightsFile, len(weights), weightsFile+seal.Suffix, sealed.Len(), key.Recipient())
	return err
}

// makeWeights makes the weights of a network that was never trained.
func makeWeights(name string) ([]byte, error) {
	random := rand.New(rand.NewPCG(7, 7))
	tensor := func(name string, shape ...int) safetensors.Tensor {
		size := 1
		for _, dimension := range shape {
			size *= dimension
		}
		data := make([]float32, size)
		for i := range data {
			data[i] = float32(random.NormFloat64() / 16)
		}
		return safetensors.Tensor{Name: name, Shape: shape, Data: data}
	}
	return safetensors.Encode([]safetensors.Tensor{
		tensor("hidden.weight", hidden, inputs), tensor("hidden.bias", hidden),
		tensor("output.weight", classes, hidden), tensor("output.bias", classes),
	}, map[string]string{"model": name})
}
