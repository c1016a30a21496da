package images

import "strings"

const (
	sha256Prefix = "sha256:"
	sha256HexLen = 64
	maxTag       = 128
	maxPath      = 255
)

// parsePlain is parseAny, ten times as fast, for what nearly every reference is: a registry host in lower case or none, a
// path, and perhaps a tag and a SHA-256 digest. It answers only where it is sure; a fuzz test compares the two. Images' IDs
// are ruled out before.
func parsePlain(raw string) (Reference, bool) {
	rest, digest, digested := strings.Cut(raw, "@")
	if digested {
		hex, ok := strings.CutPrefix(digest, sha256Prefix)
		if !ok || len(hex) != sha256HexLen || !isHex(hex) {
			return Reference{}, false
		}
	}
	host, tail, _ := strings.Cut(rest, "/")
	switch {
	case tail != "" && isPlainHost(host):
		rest = tail
	case tail == "" || !strings.ContainsAny(host, ".:") && host != "localhost":
		host = dockerHub
	default:
		return Reference{}, false
	}
	path, tag, tagged := strings.Cut(rest, ":")
	if !isPath(path) || tagged && !isTag(tag) {
		return Reference{}, false
	}
	return Reference{Repository: repository(host, path), Tag: tag, Digest: digest}, true
}

// isPlainHost says whether a reference's first component is surely a host: labels in lower case, two or more of them,
// or followed by a port.
func isPlainHost(host string) bool {
	name, port, ported := strings.Cut(host, ":")
	if ported && (port == "" || strings.Trim(port, "0123456789") != "") {
		return false
	}
	labels := 0
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !isLowerAlnum(label[i]) && label[i] != '-' {
				return false
			}
		}
		labels++
	}
	return labels > 1 || ported
}

// isPath says whether every component is letters in lower case and digits, separated by a dot, one or two underscores,
// or any number of hyphens.
func isPath(path string) bool {
	if path == "" || len(path) > maxPath {
		return false
	}
	for component := range strings.SplitSeq(path, "/") {
		if component == "" || !isLowerAlnum(component[len(component)-1]) {
			return false
		}
		separator := 0 // where the current one begins, 1 more than the index; a component begins with none
		for i := range len(component) {
			c := component[i]
			if isLowerAlnum(c) {
				separator = 0
				continue
			}
			if separator == 0 {
				separator = i + 1
			}
			if i == 0 || !isSeparator(component[separator-1:i+1]) {
				return false
			}
		}
	}
	return true
}

func isSeparator(s string) bool {
	return s == "." || s == "_" || s == "__" || strings.Trim(s, "-") == ""
}

func isTag(tag string) bool {
	if tag == "" || len(tag) > maxTag || tag[0] == '.' || tag[0] == '-' {
		return false
	}
	for i := range len(tag) {
		if c := tag[i]; !isLowerAlnum(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isLowerAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
