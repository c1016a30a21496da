package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"modelrights.dev/modelrights/hack/demo/safetensors"
	"modelrights.dev/modelrights/internal/seal"
)

// Model is a model that was opened: a network of two linear layers that sorts texts into classes.
type Model struct {
	// Name and Version are the model's, from its config.json.
	Name, Version string
	// SHA256 is the hash of the plain weights file, in hexadecimal.
	SHA256 string
	// Tensors are the names and shapes of the weights.
	Tensors map[string][]int

	hidden, output layer
}

// layer computes weight·x + bias; weight has a row for each output.
type layer struct{ weight, bias []float32 }

// config is the model's config.json.
type config struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Weights is the name of the sealed weights file, in the same directory.
	Weights string `json:"weights"`
}

// LoadModel opens the model in a directory with the keys under keyFile.
func LoadModel(dir, keyFile string) (*Model, error) {
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("read the model's configuration: %w", err)
	}
	var c config
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("read the model's configuration: %w", err)
	}
	weights, err := openWeights(filepath.Join(dir, filepath.Base(c.Weights)), keyFile)
	if err != nil {
		return nil, err
	}
	tensors, err := safetensors.Parse(weights)
	if err != nil {
		return nil, fmt.Errorf("read the weights: %w", err)
	}
	sum := sha256.Sum256(weights)
	model := &Model{Name: c.Name, Version: c.Version, SHA256: hex.EncodeToString(sum[:]), Tensors: map[string][]int{}}
	data := map[string][]float32{}
	for _, tensor := range tensors {
		model.Tensors[tensor.Name] = tensor.Shape
		data[tensor.Name] = tensor.Data
	}
	model.hidden = layer{data["hidden.weight"], data["hidden.bias"]}
	model.output = layer{data["output.weight"], data["output.bias"]}
	if model.hidden.inputs() == 0 || model.output.inputs() != len(model.hidden.bias) {
		return nil, errors.New("read the weights: the tensors hidden.weight, hidden.bias, output.weight and output.bias do not make a network")
	}
	return model, nil
}

// openWeights returns the plain bytes of the sealed file. They are in memory only.
func openWeights(file, keyFile string) (weights []byte, err error) {
	keys, err := seal.LoadKeys(keyFile)
	if err != nil {
		return nil, err
	}
	sealed, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open the sealed weights: %w", err)
	}
	defer func() { err = errors.Join(err, sealed.Close()) }()
	info, err := sealed.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the sealed weights: %w", err)
	}
	return seal.Load(sealed, info.Size(), keys...)
}

// Classify returns the probability of each class for a text.
func (m *Model) Classify(text string) []float64 {
	input := make([]float64, m.hidden.inputs())
	for i, b := range []byte(text) {
		input[(int(b)*257+i)%len(input)]++
	}
	hidden := m.hidden.apply(input)
	for i := range hidden {
		hidden[i] = max(hidden[i], 0)
	}
	return softmax(m.output.apply(hidden))
}

// inputs is how many numbers the layer takes, or 0 if its tensors do not fit each other.
func (l layer) inputs() int {
	if len(l.bias) == 0 || len(l.weight)%len(l.bias) != 0 {
		return 0
	}
	return len(l.weight) / len(l.bias)
}

func (l layer) apply(input []float64) []float64 {
	output := make([]float64, len(l.bias))
	for row := range output {
		sum := float64(l.bias[row])
		for i, x := range input {
			sum += x * float64(l.weight[row*len(input)+i])
		}
		output[row] = sum
	}
	return output
}

func softmax(values []float64) []float64 {
	highest := math.Inf(-1)
	for _, value := range values {
		highest = max(highest, value)
	}
	total := 0.0
	for i, value := range values {
		values[i] = math.Exp(value - highest)
		total += values[i]
	}
	for i := range values {
		values[i] /= total
	}
	return values
}
