package main

import (
	"encoding/json"
	"log"
	"net/http"
)

// maxRequest bounds the body of a request, in bytes.
const maxRequest = 64 << 10

// modelAnswer is the answer of GET /v1/model.
type modelAnswer struct {
	Model   string           `json:"model"`
	Version string           `json:"version"`
	Tensors map[string][]int `json:"tensors"`
	SHA256  string           `json:"sha256"`
}

// predictRequest and predictAnswer are those of POST /v1/predict.
type predictRequest struct {
	Text string `json:"text"`
}

type predictAnswer struct {
	Class         int       `json:"class"`
	Probabilities []float64 `json:"probabilities"`
}

// Handler serves a model: what it is, what it says of a text, and that it is up. Without a model it is just up.
func Handler(model *Model) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	if model == nil {
		return mux
	}
	mux.HandleFunc("GET /v1/model", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, modelAnswer{Model: model.Name, Version: model.Version, Tensors: model.Tensors, SHA256: model.SHA256})
	})
	mux.HandleFunc("POST /v1/predict", func(w http.ResponseWriter, r *http.Request) {
		var request predictRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&request); err != nil {
			http.Error(w, `want {"text": "…"}: `+err.Error(), http.StatusBadRequest)
			return
		}
		probabilities := model.Classify(request.Text)
		best := 0
		for class, probability := range probabilities {
			if probability > probabilities[best] {
				best = class
			}
		}
		answer(w, predictAnswer{Class: best, Probabilities: probabilities})
	})
	return mux
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		log.Printf("answer: %v", err)
	}
}
