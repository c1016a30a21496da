package workloads

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/internal/images"
)

// maxWord bounds a word that may be a reference, in bytes: a repository has at most 255, a tag 128, a digest 135.
const maxWord = 600

// add reports a reference. Nothing is left of a string that is empty.
func (w *walker) add(kind images.UseKind, name, image string, confidence images.Confidence, t *Template) {
	image = strings.TrimSpace(image)
	if image == "" || !w.enter() {
		return
	}
	found := Found{Path: w.here(), Kind: kind, Name: name, Image: clip(image, MaxImage), Confidence: confidence, Template: t}
	switch normalized, id := normalize(image); {
	case normalized != "":
		found.Normalized = normalized
	case !id:
		found.Confidence = images.Unresolved
	}
	if n := len(w.found); n > 0 && w.found[n-1] == found {
		return
	}
	w.found = append(w.found, found)
}

// uris reports the images that a string names by URIs with one of our schemes, and says whether there were any.
func (w *walker) uris(s string, confidence images.Confidence, t *Template) bool {
	mentions := images.FromText(w.bounded(s))
	for _, m := range mentions {
		c := confidence
		if m.Confidence == images.Unresolved {
			c = images.Unresolved
		}
		w.add("", "", m.Image, c, t)
	}
	return len(mentions) > 0
}

// words reports the words of a string that are references and name their registry: without that, any word might be one.
func (w *walker) words(s string, t *Template) {
	w.uris(s, images.Inferred, t)
	for word := range strings.FieldsFuncSeq(w.bounded(s), separates) {
		if !strings.Contains(word, "{") {
			word = strings.TrimRight(word, "}") // the end of a map, and of no placeholder
		}
		word = strings.TrimPrefix(strings.TrimRight(word, ".:"), "docker://")
		if namesRegistry(word) {
			w.add("", "", word, images.Inferred, t)
		}
	}
}

// separates says whether a character ends a word: white space, and what stands around references in shell and JSON.
func separates(r rune) bool {
	return r <= ' ' || strings.ContainsRune("\"'`=,;|&()[]\\", r)
}

// namesRegistry says whether a word is a reference with a registry that is a domain of its own or has a port, or the same
// with placeholders in it.
func namesRegistry(word string) bool {
	if len(word) > maxWord || strings.Contains(word, "://") {
		return false
	}
	host, path, ok := strings.Cut(word, "/")
	if !ok || path == "" || !strings.ContainsAny(host, ".:") || strings.HasPrefix(host, ".") || strings.HasPrefix(host, "-") {
		return false
	}
	if images.HasPlaceholder(word) {
		return !images.HasPlaceholder(host)
	}
	normalized, _ := normalize(word)
	return normalized != ""
}

// bounded is the part of a string that is looked at.
func (w *walker) bounded(s string) string {
	if len(s) <= MaxString {
		return s
	}
	w.truncated = true
	return s[:MaxString]
}

// commandLine reports what the command, arguments and variables of a map name, with variables expanded as the kubelet
// does, and returns the fields that it has dealt with.
func (w *walker) commandLine(m map[string]any, t *Template) []string {
	c := corev1.Container{Name: nameOf(m)}
	var seen []string
	var ok bool
	if c.Env, ok = variables(m["env"]); ok {
		seen = append(seen, "env")
	}
	if c.Command, ok = stringList(m["command"]); ok {
		seen = append(seen, "command")
	}
	if c.Args, ok = stringList(m["args"]); ok {
		seen = append(seen, "args")
	}
	if len(seen) == 0 {
		return nil
	}
	w.nodes += len(c.Env) + len(c.Command) + len(c.Args)
	const prefix = "spec.containers[0]."
	for _, use := range images.FromPod(&corev1.PodSpec{Containers: []corev1.Container{c}}) {
		if use.Excess {
			w.truncated = true
			continue
		}
		if !w.enter() {
			break
		}
		path := w.here()
		if path != "" {
			path += "."
		}
		found := Found{
			Path: clip(path+strings.TrimPrefix(use.Field, prefix), MaxPath), Kind: use.Kind, Name: use.Name,
			Image: clip(use.Image, MaxImage), Confidence: use.Confidence, Template: t,
		}
		found.Normalized, _ = normalize(use.Image)
		w.found = append(w.found, found)
	}
	return seen
}

// stringList is a list of strings, and whether it is one.
func stringList(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	all := make([]string, len(list))
	for i, item := range list {
		if all[i], ok = item.(string); !ok {
			return nil, false
		}
	}
	return all, true
}

// variables is a list of environment variables, and whether it is one. Where a value comes from elsewhere, what counts is
// that, and whether it may be missing.
func variables(v any) ([]corev1.EnvVar, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	all := make([]corev1.EnvVar, len(list))
	for i, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			return nil, false
		}
		if all[i].Name, ok = m["name"].(string); !ok {
			return nil, false
		}
		all[i].Value, _ = m["value"].(string)
		if from, ok := m["valueFrom"].(map[string]any); ok {
			all[i].ValueFrom = source(from)
		}
	}
	return all, true
}

func source(from map[string]any) *corev1.EnvVarSource {
	for _, key := range []string{"configMapKeyRef", "secretKeyRef"} {
		if ref, ok := from[key].(map[string]any); ok {
			if optional, _ := ref["optional"].(bool); optional {
				return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Optional: &optional}}
			}
		}
	}
	return &corev1.EnvVarSource{}
}
