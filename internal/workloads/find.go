// Package workloads finds the image references in the objects that make pods, built in or custom: by walking them for
// what looks like a pod spec, by the names of fields, by URI schemes, and by a table of what cannot be guessed. It is pure
// and knows no schema, so that it works on any object of any version, also on manifests that never were on a cluster.
package workloads

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"modelrights.dev/modelrights/internal/images"
)

// Bounds of what is looked at in one object, and what is returned. Whoever may create objects chooses their content.
const (
	// MaxDepth is how deep maps and lists may be nested.
	MaxDepth = 100
	// MaxNodes is how many values are looked at.
	MaxNodes = 250_000
	// MaxFound is how many references are returned.
	MaxFound = 10_000
	// MaxString is how much of one string is looked at, in bytes.
	MaxString = 256 << 10
	// MaxImage bounds Found.Image, and MaxPath Found.Path and Template.Path, in bytes; what is longer is cut off.
	MaxImage = 1 << 10
	MaxPath  = 512
)

// Found is one place in an object that names an image.
type Found struct {
	// Path is the field, for example spec.template.spec.containers[0].image. Keys that hold other characters than
	// letters, digits, - and _ stand as ["a.b/c"]. In a string that holds manifests it is the field's path, a colon, and
	// the path there.
	Path string
	// Kind is what kind of place of a pod this is, and Name the name of the container or volume. Both are empty where the
	// object only says indirectly what its pods will be.
	Kind images.UseKind
	Name string
	// Image is the reference as it stands there, without the scheme of a URI; put together where it stands in parts.
	Image string
	// Normalized is the reference in normal form; empty where it does not parse.
	Normalized string
	// Confidence says how sure it is that pods will use the image.
	Confidence images.Confidence
	// Template is what is known of the pods that will use it. References of the same pods share it. It is never nil.
	Template *Template
}

// Template is what an object says of some of the pods that it makes.
type Template struct {
	// Path is where the object says it: a pod template, a pod spec, or what names the service account. Empty: the object
	// as a whole.
	Path string
	// Namespace is the object's, as it says itself; often empty.
	Namespace string
	// ServiceAccount is the account that the pods will run as; empty where the object does not say, which means default.
	ServiceAccount string
	// Labels are the pods' labels, as far as the object gives them; nil where it has no pod template with labels.
	Labels map[string]string
}

// Result is what Scan found.
type Result struct {
	// Found are the references, in a stable order.
	Found []Found
	// Truncated says that the object exceeds a bound, so that not all of it was looked at.
	Truncated bool
}

// Find lists the image references of an object, or of a list's objects, in a stable order. Keys of the maps are field
// names as in JSON; values are what encoding/json and sigs.k8s.io/yaml decode into any. The object is only read.
func Find(object map[string]any, table Table) []Found { return Scan(object, table).Found }

// Scan is Find, and says whether it looked at everything. It takes time and memory in proportion to the object, up to
// the bounds of this package, whatever the object holds.
func Scan(object map[string]any, table Table) Result {
	w := walker{table: table}
	w.object(object, "", "", nil)
	return Result{Found: w.found, Truncated: w.truncated}
}

// walker is one walk through an object.
type walker struct {
	table     Table
	path      []element
	prefix    string // the path of the string whose manifests are walked
	manifest  int    // how much text of manifests was parsed, in bytes
	nodes     int
	found     []Found
	truncated bool
}

// at walks one step down and back up.
func (w *walker) at(e element, f func()) {
	w.path = append(w.path, e)
	f()
	w.path = w.path[:len(w.path)-1]
}

// enter counts a value, and says whether it may still be looked at.
func (w *walker) enter() bool {
	w.nodes++
	if w.nodes > MaxNodes || len(w.path) > MaxDepth || len(w.found) >= MaxFound {
		w.truncated = true
		return false
	}
	return true
}

// here is the path of the value that is looked at.
func (w *walker) here() string { return clip(w.prefix+formatPath(w.path), MaxPath) }

// object walks an object with a kind, or the items of a list. Where it does not say its own kind, it has the given one. It
// belongs to the pods of outer where it does not say more.
func (w *walker) object(o map[string]any, apiVersion, kind string, outer *Template) {
	if !w.enter() {
		return
	}
	if s, ok := o["apiVersion"].(string); ok {
		apiVersion = s
	}
	if s, ok := o["kind"].(string); ok {
		kind = s
	}
	if items, ok := o["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		w.at(element{key: "items"}, func() {
			for i, item := range items {
				if m, ok := item.(map[string]any); ok {
					w.at(element{index: i, list: true}, func() { w.object(m, apiVersion, strings.TrimSuffix(kind, "List"), nil) })
				}
			}
		})
		return
	}
	group, _, versioned := strings.Cut(apiVersion, "/")
	if !versioned {
		group = ""
	}
	entry := w.table.lookup(group, kind)
	metadata, _ := o["metadata"].(map[string]any)
	t := &Template{Path: w.here()}
	if outer != nil {
		t.Namespace, t.ServiceAccount = outer.Namespace, outer.ServiceAccount
	}
	if namespace, ok := metadata["namespace"].(string); ok {
		t.Namespace = namespace
	}
	if account := entry.account(o); account != "" {
		t.ServiceAccount = account
	}
	active := entry.start()
	spec, _ := o["spec"].(map[string]any)
	if group == "" && kind == "Pod" && looksLikePodSpec(spec) {
		// Elsewhere the labels of an object are not those of its pods.
		t = t.describedBy(o, w.here())
		w.at(element{key: "spec"}, func() { w.podSpec(spec, t, nil) })
		w.fields(o, t, nil, "apiVersion", "kind", "status", "spec")
		return
	}
	if entry == nil && looksLikeParts(o) {
		w.parts(o, repositoryParts, images.Inferred, t)
	}
	w.fields(o, t, active, "apiVersion", "kind", "status")
}

// fields walks the values of a map in the order of its keys, but for those that were looked at already.
func (w *walker) fields(m map[string]any, t *Template, active states, except ...string) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if slices.Contains(except, key) {
			continue
		}
		e := element{key: key}
		w.at(e, func() { w.value(key, m[key], t, active.next(e)) })
		if w.truncated && w.nodes > MaxNodes {
			return
		}
	}
}

// value walks any value; key is the name of the field that holds it, also where it stands in a list of that field.
func (w *walker) value(key string, v any, t *Template, active states) {
	if !w.enter() {
		return
	}
	if rule := active.accepted(); rule != nil && w.apply(rule, v, t, active) {
		return
	}
	switch v := v.(type) {
	case string:
		if isImageKey(key) && w.imageField(v, images.Inferred, t) {
			return
		}
		w.uris(v, images.Inferred, t)
	case map[string]any:
		switch {
		case key == "metadata":
			w.metadata(v, t)
		case isImageKey(key) && w.parts(v, standardParts, images.Inferred, t):
		default:
			w.mapping(v, t, active)
		}
	case []any:
		for i, item := range v {
			e := element{index: i, list: true}
			w.at(e, func() { w.value(key, item, t, active.next(e)) })
			if w.truncated && w.nodes > MaxNodes {
				return
			}
		}
	}
}

// mapping walks a map, of which it finds out what it is.
func (w *walker) mapping(m map[string]any, t *Template, active states) {
	if _, ok := m["apiVersion"].(string); ok {
		if kind, ok := m["kind"].(string); ok && kind != "" {
			w.object(m, "", "", t)
			return
		}
	}
	if spec, ok := m["spec"].(map[string]any); ok && looksLikePodSpec(spec) {
		described := t.describedBy(m, w.here())
		w.at(element{key: "spec"}, func() { w.podSpec(spec, described, active.next(element{key: "spec"})) })
		w.fields(m, t, active, "spec")
		return
	}
	if looksLikePodSpec(m) {
		described := &Template{Path: w.here(), Namespace: t.Namespace, ServiceAccount: t.ServiceAccount}
		if account := accountOf(m); account != "" {
			described.ServiceAccount = account
		}
		w.podSpec(m, described, active)
		return
	}
	if account := cmp.Or(active.account(m), accountOf(m)); account != "" && account != t.ServiceAccount {
		t = &Template{Path: w.here(), Namespace: t.Namespace, ServiceAccount: account}
	}
	if looksLikeParts(m) {
		w.parts(m, repositoryParts, images.Inferred, t)
	}
	seen := w.commandLine(m, t)
	w.fields(m, t, active, seen...)
}

// metadata looks only at annotations, and not at those that repeat the whole object.
func (w *walker) metadata(m map[string]any, t *Template) {
	annotations, _ := m["annotations"].(map[string]any)
	w.at(element{key: "annotations"}, func() {
		for _, key := range slices.Sorted(maps.Keys(annotations)) {
			if value, ok := annotations[key].(string); ok && !strings.HasSuffix(key, "last-applied-configuration") {
				w.at(element{key: key}, func() {
					if w.enter() {
						w.uris(value, images.Inferred, t)
					}
				})
			}
		}
	})
}

func clip(s string, bytes int) string {
	if len(s) <= bytes {
		return s
	}
	return strings.ToValidUTF8(s[:bytes], "")
}
