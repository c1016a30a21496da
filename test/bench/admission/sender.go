package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/bench/cluster"
	"modelrights.dev/modelrights/test/bench/gauge"
)

// sendTimeout is longer than anything that the API server may wait for.
const sendTimeout = 30 * time.Second

// sender creates the pods of a variant.
type sender struct {
	client *http.Client
	host   string
	// bodies are what is sent, in turn, encoded beforehand.
	bodies map[string][][]byte
}

func newSender(config *rest.Config) (*sender, error) {
	c, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	c.Timeout = sendTimeout
	s := &sender{client: c, host: cluster.HostOf(config), bodies: map[string][][]byte{}}
	for _, v := range variants() {
		for i := range cluster.LicensesAtFirst {
			body, err := json.Marshal(cluster.Pod(v.namespace, v.image(i)))
			if err != nil {
				return nil, err
			}
			s.bodies[v.Name] = append(s.bodies[v.Name], body)
		}
	}
	return s, nil
}

// scrape reads the API server's metrics.
func (s *sender) scrape(ctx context.Context) (gauge.Scrape, error) {
	text, err := cluster.Get(ctx, s.client, s.host+"/metrics")
	if err != nil {
		return nil, fmt.Errorf("metrics of the API server: %w", err)
	}
	return gauge.ParseMetrics(text, "apiserver_admission_", "apiserver_validating_admission_policy_")
}

// send creates the i-th pod of a variant. The error says how it was decided, if not as it must be.
func (s *sender) send(ctx context.Context, v *variant, i int) error {
	url := s.host + "/api/v1/namespaces/" + v.namespace + "/pods"
	if !v.stored {
		url += "?dryRun=All"
	}
	body := s.bodies[v.Name][i%cluster.LicensesAtFirst]
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if err := v.want.check(response.StatusCode, answer); err != nil {
		return fmt.Errorf("%s: %w", v.Name, err)
	}
	return nil
}

// driverName is that of the key volumes which the operator adds.
const driverName = `"driver":"` + v1alpha1.CSIDriverName + `"`

// check compares an answer of the API server with the verdict.
func (v verdict) check(status int, answer []byte) error {
	message := string(answer)
	var problem struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &problem) == nil && problem.Message != "" {
		message = problem.Message
	}
	if v == refused {
		if status != http.StatusForbidden || !strings.Contains(message, "modelrights: pod denied ["+string(v1alpha1.ReasonUnlicensed)+"]") {
			return fmt.Errorf("must be denied as %s, but the answer is %d: %.300s", v1alpha1.ReasonUnlicensed, status, message)
		}
		return nil
	}
	if status != http.StatusCreated {
		return fmt.Errorf("must be created, but the answer is %d: %.300s", status, message)
	}
	if has := bytes.Contains(answer, []byte(driverName)); has != (v == withKey) {
		return fmt.Errorf("must come back with a key volume: %t, but it is the other way round", v == withKey)
	}
	return nil
}

// warmUp sends pods of a variant one after another until so many in a row were decided as they must be, or the time is
// up; then the last error says what is wrong.
func (s *sender) warmUp(ctx context.Context, v *variant, inARow int, atMost time.Duration) error {
	deadline := time.Now().Add(atMost)
	for good, i := 0, 0; good < inARow; i++ {
		err := s.send(ctx, v, i)
		switch {
		case err == nil:
			good++
		case time.Now().After(deadline) || ctx.Err() != nil:
			return errors.Join(err, context.Cause(ctx))
		default:
			good = 0
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

// isLogged says whether the admission of a stored pod is in the audit log.
func isLogged(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == v1alpha1.PodConditionLicensed && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}
