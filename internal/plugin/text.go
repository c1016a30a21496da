package plugin

import (
	"strconv"
	"strings"
	"unicode"
)

// visible writes characters that do not print as escapes, since manifests and messages are written by others: they can
// neither steer the terminal nor break a table.
func visible(s string) string {
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }

// String is the object as kubectl names it: kind and name.
func (o ObjectReference) String() string {
	kind := strings.ToLower(o.Kind)
	switch {
	case kind == "":
		return o.Name
	case o.Name == "":
		return kind
	}
	return kind + "/" + o.Name
}
