package prefilter

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

const (
	// grammar matches references that images.Parse reads, and nothing that it does not read but for what is too long. It
	// is the grammar of github.com/distribution/reference, with SHA-256 alone as digest, and without hosts that are IPv6
	// addresses, which have too many spellings: what does not match it is sent.
	grammar = `^(?:` + hostLabel + `(?:\.` + hostLabel + `)*(?::[0-9]+)?/)?` +
		pathComponent + `(?:/` + pathComponent + `)*(?::\w[\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$`
	hostLabel     = `[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?`
	pathComponent = `[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*`

	// imageID matches what a container runtime takes for an image's ID on the node.
	imageID = `^sha(?:256|384|512):|^[0-9a-f]{64}$`
)

var grammarRegexp = regexp.MustCompile(grammar)

// expression is the regular expression, RE2, that matches every governed reference of the grammar, however it is spelled.
func (s *prefixes) expression() string {
	if s.everything {
		return `^`
	}
	alternatives := []string{imageID}
	if len(s.root.next) > 0 {
		alternatives = append(alternatives, `(?:^|/)`+s.root.expression()+`(?:[:@/]|$)`)
	}
	var literal []string
	for _, host := range slices.Sorted(maps.Keys(s.hosts)) {
		if host == dockerHub {
			// No slash; or a first component that is no host; or a host of Docker's.
			alternatives = append(alternatives, `^[^/]*$|^[^/.:A-Z]+/|^(?i:[^/]*docker[^/]*)/`)
			continue
		}
		name, port := host, `(?::0*443)?`
		if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
			name, port = host[:i], `:0*`+host[i+1:]
		}
		if !strings.HasPrefix(name, "[") { // The grammar leaves these out.
			literal = append(literal, regexp.QuoteMeta(name)+port)
		}
	}
	if len(literal) > 0 {
		alternatives = append(alternatives, `^(?i:`+strings.Join(literal, "|")+`)/`)
	}
	return strings.Join(alternatives, "|")
}

// expression matches the paths below a node.
func (n *node) expression() string {
	children := n.sorted()
	alternatives := make([]string, len(children))
	for i, c := range children {
		alternatives[i] = regexp.QuoteMeta(c.name)
		if !c.end() {
			alternatives[i] += "/" + c.expression()
		}
	}
	if len(alternatives) == 1 && n.parent != nil {
		return alternatives[0]
	}
	return "(?:" + strings.Join(alternatives, "|") + ")"
}
