package integration

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

// review is a review that the operator was sent.
type review struct {
	Operation              admissionv1.Operation
	Namespace, Name, Image string
}

// reviews gathers reviews.
type reviews struct {
	mu  sync.Mutex
	all []review
}

func (r *reviews) taken() []review {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// of lists the reviews of pods whose name, or generated name, begins so.
func (r *reviews) of(prefix string) []review {
	return slices.DeleteFunc(r.taken(), func(v review) bool { return !strings.HasPrefix(v.Name, prefix) })
}

// reviewedServer notes the reviews that come in.
type reviewedServer struct {
	webhook.Server
	reviews *reviews
}

func (s *reviewedServer) Register(path string, hook http.Handler) {
	s.Server.Register(path, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		var asked admissionv1.AdmissionReview
		var pod corev1.Pod
		if json.Unmarshal(body, &asked) == nil && asked.Request != nil && json.Unmarshal(asked.Request.Object.Raw, &pod) == nil {
			seen := review{
				Operation: asked.Request.Operation, Namespace: asked.Request.Namespace, Name: cmp.Or(pod.Name, pod.GenerateName),
			}
			if len(pod.Spec.Containers) > 0 {
				seen.Image = pod.Spec.Containers[0].Image
			}
			s.reviews.mu.Lock()
			s.reviews.all = append(s.reviews.all, seen)
			s.reviews.mu.Unlock()
		}
		hook.ServeHTTP(w, req)
	}))
}
