package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"modelrights.dev/modelrights/test/bench/cluster"
)

// auditPolicy has the API server note what the operator writes.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["system:serviceaccount:` + cluster.OperatorNamespace + `:modelrights-operator"]
  verbs: [create, update, patch, delete, deletecollection]
- level: None
`

// auditLag is how long the API server may keep what it notes in memory.
const auditLag = time.Second

// writes counts what the operator writes, by the API server's own audit log.
type writes struct {
	path   string
	offset int64
}

// auditFlags writes the policy and returns the API server's flags.
func auditFlags(dir string) (w *writes, flags []string, err error) {
	policy, log := filepath.Join(dir, "audit-policy.yaml"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return nil, nil, err
	}
	return &writes{path: log}, []string{
		"audit-policy-file=" + policy, "audit-log-path=" + log, "audit-log-mode=batch",
		"audit-log-batch-max-wait=" + auditLag.String(), "audit-log-batch-max-size=1",
	}, nil
}

// written is how many requests there were, by verb and resource, for example "patch pods/status".
type written map[string]int

// since is what was written since the last call. What was written in the last moments may be missing: wait for auditLag.
func (w *writes) since() (written, error) {
	file, err := os.Open(w.path)
	if errors.Is(err, fs.ErrNotExist) {
		return written{}, nil
	} else if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	if _, err := file.Seek(w.offset, io.SeekStart); err != nil {
		return nil, err
	}
	counted, read, err := countWrites(file)
	w.offset += read
	return counted, err
}

// countWrites reads whole lines, and says how many bytes these were.
func countWrites(from io.Reader) (written, int64, error) {
	counted, read := written{}, int64(0)
	lines := bufio.NewReaderSize(from, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return counted, read, nil
		} else if err != nil {
			return nil, 0, err
		}
		read += int64(len(line))
		var event struct {
			Verb   string `json:"verb"`
			Object struct {
				Resource    string `json:"resource"`
				Subresource string `json:"subresource"`
			} `json:"objectRef"`
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, 0, fmt.Errorf("audit log of the API server: %w", err)
		}
		what := event.Verb + " " + event.Object.Resource
		if event.Object.Subresource != "" {
			what += "/" + event.Object.Subresource
		}
		counted[what]++
	}
}

// perPod divides by the pods what is written for their sake: neither reviews, which are questions, nor leases, nor our audit
// log.
func (w written) perPod(pods int) float64 {
	n := 0
	for what, count := range w {
		_, resource, _ := strings.Cut(what, " ")
		switch resource {
		case "tokenreviews", "subjectaccessreviews", "leases", "modelauditrecords", "modelauditlogs", "modelauditlogs/status":
		default:
			n += count
		}
	}
	return float64(n) / float64(pods)
}

func (w written) String() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(w)) {
		parts = append(parts, fmt.Sprintf("%d %s", w[what], what))
	}
	return strings.Join(parts, ", ")
}
