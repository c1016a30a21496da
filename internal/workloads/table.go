package workloads

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"sigs.k8s.io/yaml"
)

//go:embed table.yaml
var defaultTable []byte

// Bounds of a table.
const (
	// MaxTable is the longest table that ParseTable reads, in bytes.
	MaxTable = 256 << 10
	// MaxWorkloads bounds the entries of a table, MaxPaths the paths of one entry.
	MaxWorkloads = 256
	MaxPaths     = 64
)

// Table says of kinds of objects what cannot be guessed from the objects themselves. The zero Table says nothing. It is
// immutable. docs/reference/workloads-table.md describes its format.
type Table struct{ entries []entry }

// Groups are API groups and, of each, the resources (plural names) whose objects are looked at; nil means all of them.
type Groups map[string][]string

// entry is one entry of a table, compiled.
type entry struct {
	group     string
	resources []string
	kinds     []string  // nil: all of the group
	accounts  [][]token // of literal steps
	otherwise []part    // the account where the object names none
	rules     []rule
}

// rule is one path of an entry, and what stands there.
type rule struct {
	pattern []token
	holds   content
	parts   partNames
}

// content is what stands at a path.
type content int

const (
	anImage    content = iota // a reference, as a string or in parts
	aURI                      // a URI, which names an image if it has one of our schemes
	aText                     // a text in which references may stand
	aManifest                 // the text of further objects, in YAML or JSON
	noInterest                // nothing that makes a pod
	anAccount                 // the service account of the pods that the map around the field makes
)

// tableFile is the format of a table.
type tableFile struct {
	Workloads []entryFile `json:"workloads"`
}

type entryFile struct {
	Group           string      `json:"group"`
	Resources       []string    `json:"resources,omitempty"`
	Kinds           []string    `json:"kinds,omitempty"`
	ServiceAccounts []string    `json:"serviceAccounts,omitempty"`
	ServiceAccount  string      `json:"serviceAccount,omitempty"`
	Images          []imagePath `json:"images,omitempty"`
	URIs            []string    `json:"uris,omitempty"`
	Texts           []string    `json:"texts,omitempty"`
	Manifests       []string    `json:"manifests,omitempty"`
	Ignore          []string    `json:"ignore,omitempty"`
}

// imagePath is a path, or a path with the names of the parts there.
type imagePath struct {
	Path  string    `json:"path"`
	Parts partNames `json:"parts"`
}

// UnmarshalJSON reads a string as a path with the usual names of parts.
func (p *imagePath) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		p.Parts = standardParts
		return yaml.UnmarshalStrict(data, &p.Path)
	}
	type plain imagePath
	if err := yaml.UnmarshalStrict(data, (*plain)(p)); err != nil {
		return fmt.Errorf("an image is a path, or {path: PATH, parts: {repository: FIELD, tag: FIELD, …}}: %w", err)
	}
	if p.Parts == (partNames{}) {
		p.Parts = standardParts
	}
	return nil
}

// Default is the table that comes with modelrights.
func Default() Table {
	t, err := ParseTable(defaultTable)
	if err != nil {
		panic(fmt.Sprintf("the table that comes with modelrights: %v", err)) // a test reads it
	}
	return t
}

// ParseTable reads a table in YAML or JSON. The error lists everything that is wrong with it, and where.
func ParseTable(data []byte) (Table, error) {
	if len(data) > MaxTable {
		return Table{}, fmt.Errorf("the table is longer than %d bytes", MaxTable)
	}
	var file tableFile
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return Table{}, fmt.Errorf("reading the table: %w", err)
	}
	if len(file.Workloads) > MaxWorkloads {
		return Table{}, fmt.Errorf("the table has more than %d workloads", MaxWorkloads)
	}
	var t Table
	var errs []error
	for i := range file.Workloads {
		e, err := file.Workloads[i].compile()
		if err != nil {
			errs = append(errs, fmt.Errorf("workloads[%d] (group %q): %w", i, clip(file.Workloads[i].Group, MaxPath), err))
			continue
		}
		t.entries = append(t.entries, e)
	}
	if err := errors.Join(errs...); err != nil {
		return Table{}, err
	}
	return t, nil
}

// With returns the table with another's entries before its own, so that of two entries for the same kind the other's
// counts.
func (t Table) With(other Table) Table {
	return Table{entries: slices.Concat(other.entries, t.entries)}
}

// Groups lists the API groups of the table, and their resources. Where any entry of a group names none, all count.
func (t Table) Groups() Groups {
	groups := Groups{}
	all := map[string]bool{}
	for _, e := range t.entries {
		if e.resources == nil {
			all[e.group] = true
		}
		groups[e.group] = append(groups[e.group], e.resources...)
	}
	for group, resources := range groups {
		if all[group] {
			groups[group] = nil
			continue
		}
		slices.Sort(resources)
		groups[group] = slices.Compact(resources)
	}
	return groups
}

// lookup is the first entry for a kind, nil where there is none.
func (t Table) lookup(group, kind string) *entry {
	for i := range t.entries {
		if e := &t.entries[i]; e.group == group && (e.kinds == nil || slices.Contains(e.kinds, kind)) {
			return e
		}
	}
	return nil
}

// start is the rules of an entry before the first step.
func (e *entry) start() states {
	if e == nil {
		return nil
	}
	active := make(states, len(e.rules))
	for i := range e.rules {
		active[i] = state{rule: &e.rules[i]}
	}
	return active
}

// account is the first service account that an object names at the paths of its entry.
func (e *entry) account(o map[string]any) string {
	if e == nil {
		return ""
	}
	for _, path := range e.accounts {
		if name := field(o, path); name != "" {
			return name
		}
	}
	return fill(e.otherwise, o)
}

// account is the service account that a map names where the rules say so.
func (s states) account(m map[string]any) string {
	for _, st := range s {
		if tokens := st.rule.pattern; st.rule.holds == anAccount && st.matched == len(tokens)-1 {
			if name, _ := m[tokens[st.matched].key].(string); name != "" {
				return clip(name, MaxPath)
			}
		}
	}
	return ""
}

// A group of custom resources has a dot in its name; those of the built-in workloads have none.
var (
	groupName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$`)
	resourceName = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
	kindName     = regexp.MustCompile(`^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$`)
)

func (f *entryFile) compile() (entry, error) {
	e := entry{group: f.Group, resources: f.Resources, kinds: f.Kinds}
	var errs []error
	if !groupName.MatchString(f.Group) || len(f.Group) > 253 {
		errs = append(errs, fmt.Errorf("group must be the API group of a custom resource, such as serving.kserve.io, and is %q", f.Group))
	}
	for _, r := range f.Resources {
		if !resourceName.MatchString(r) || len(r) > 63 {
			errs = append(errs, fmt.Errorf("resources: %q is not the plural name of a resource, such as inferenceservices", r))
		}
	}
	for _, k := range f.Kinds {
		if !kindName.MatchString(k) || len(k) > 63 {
			errs = append(errs, fmt.Errorf("kinds: %q is not a kind, such as InferenceService", k))
		}
	}
	for _, path := range f.ServiceAccounts {
		tokens, err := parsePattern(path)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("serviceAccounts: %w", err))
		case isLiteral(tokens):
			e.accounts = append(e.accounts, tokens)
		case tokens[len(tokens)-1].kind != literal:
			errs = append(errs, fmt.Errorf("serviceAccounts: path %q must end in the name of a field", path))
		default:
			e.rules = append(e.rules, rule{pattern: tokens, holds: anAccount})
		}
	}
	var err error
	if e.otherwise, err = parseParts(f.ServiceAccount); err != nil {
		errs = append(errs, fmt.Errorf("serviceAccount: %w", err))
	}
	add := func(list string, holds content, paths []string) {
		for _, path := range paths {
			tokens, err := parsePattern(path)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", list, err))
			}
			e.rules = append(e.rules, rule{pattern: tokens, holds: holds})
		}
	}
	add("ignore", noInterest, f.Ignore)
	for _, image := range f.Images {
		add("images", anImage, []string{image.Path})
		e.rules[len(e.rules)-1].parts = image.Parts
	}
	add("uris", aURI, f.URIs)
	add("texts", aText, f.Texts)
	add("manifests", aManifest, f.Manifests)
	if len(e.rules)+len(e.accounts) > MaxPaths {
		errs = append(errs, fmt.Errorf("there are more than %d paths", MaxPaths))
	}
	return e, errors.Join(errs...)
}
