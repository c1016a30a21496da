package images

import (
	"errors"
	"net/url"
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// Schemes are the URI schemes by which tools name images outside of image fields, in lower case and without "://":
// KServe's modelcars and storage initialisers, and the runtimes that copy their spelling. They count in any case, and
// also where another scheme ends with them (kserve+oci://). The expression of the webhooks' match conditions is made of
// the same list.
var Schemes = []string{"oci", "oci+native", "oci+fetch", "modelcar"}

const (
	schemeEnd = "://"

	// maxMention is how much of a text is looked at after a scheme, in bytes: four times what a reference has at most.
	maxMention = 2048

	// maxMentions is how many images FromText finds in one text.
	maxMentions = 512
)

// Mention is an image that a text names by a URI with one of Schemes.
type Mention struct {
	// Scheme is which of Schemes, in lower case.
	Scheme string
	// Image is the reference after the scheme. Of a URI with more after the image (user information before it, a query, a
	// path below the tag, a full stop) it is the image alone; where that cannot be told, the rest as it stands.
	Image string
	// Confidence is Inferred where Image is a reference or an image's ID, and Unresolved where it holds placeholders or
	// cannot be parsed.
	Confidence Confidence
}

// FromText lists the images that a text names by URIs with one of Schemes, anywhere in it, at most 512. It takes a shell
// script, JSON, a flag or a bare URI alike, and does not expand variables.
func FromText(text string) []Mention {
	found, _ := mentions(text, maxMentions)
	return found
}

// NamesScheme says whether a text holds one of Schemes with "://": without it, FromText finds nothing.
func NamesScheme(text string) bool {
	for rest := text; ; {
		i := strings.Index(rest, schemeEnd)
		if i < 0 {
			return false
		}
		if schemeBefore(rest[:i]) != "" {
			return true
		}
		rest = rest[i+len(schemeEnd):]
	}
}

// mentions lists at most limit mentions and says whether these are all.
func mentions(text string, limit int) (found []Mention, all bool) {
	for rest := text; ; {
		i := strings.Index(rest, schemeEnd)
		if i < 0 {
			return found, true
		}
		scheme := schemeBefore(rest[:i])
		rest = rest[i+len(schemeEnd):]
		if scheme == "" {
			continue
		}
		m := Mention{Scheme: scheme}
		if m.Image, m.Confidence = imageAt(rest); m.Image == "" {
			continue
		}
		if len(found) == limit {
			return found, false
		}
		found = append(found, m)
	}
}

// schemeBefore is the longest of Schemes with which the text ends.
func schemeBefore(text string) string {
	longest := ""
	for _, scheme := range Schemes {
		if at := len(text) - len(scheme); at >= 0 && len(scheme) > len(longest) && strings.EqualFold(text[at:], scheme) {
			longest = scheme
		}
	}
	return longest
}

// imageAt is the image at the beginning of what follows a scheme.
func imageAt(rest string) (string, Confidence) {
	end, open := uriEnd(rest)
	if open {
		return rest[:end], Unresolved
	}
	written := trimURI(rest[:end])
	if decoded, err := url.PathUnescape(written); err == nil && decoded != written {
		if end, open := uriEnd(decoded); !open {
			if image, ok := imageOf(trimURI(decoded[:end])); ok {
				return image, Inferred
			}
		}
	}
	if image, ok := imageOf(written); ok {
		return image, Inferred
	}
	return written, Unresolved
}

// trimURI takes off what ends a sentence, or a directory, rather than a URI.
func trimURI(uri string) string { return strings.TrimRight(uri, "./:@-_+") }

// uriEnd is where the characters end of which a reference, user information and escapes consist, and whether there is a
// placeholder among them.
func uriEnd(rest string) (end int, open bool) {
	rest = rest[:min(len(rest), maxMention)]
	for end < len(rest) {
		if n := placeholder(rest[end:]); n > 0 {
			end, open = end+n, true
			continue
		}
		c := rest[end]
		brackets := (c == '[' || c == ']') && strings.HasPrefix(rest, "[") && !strings.Contains(rest[:end], "]")
		if !brackets && !isURIByte(c) {
			break
		}
		end++
	}
	return end, open
}

func isURIByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	default:
		return strings.IndexByte("._-:/@+%~", c) >= 0
	}
}

// referencePrefix matches the longest beginning of a text that is a reference.
var referencePrefix = func() *regexp.Regexp {
	r := regexp.MustCompile("^" + reference.NameRegexp.String() + "(?::" + reference.TagRegexp.String() + ")?(?:@" + reference.DigestRegexp.String() + ")?")
	r.Longest()
	return r
}()

// imageOf is the image that a URI names: all of it, or what is left of it without user information and without what
// follows the image. The host and one component of the path stay.
func imageOf(uri string) (string, bool) {
	if image, ok := beginning(uri); ok {
		return image, true
	}
	host, _, _ := strings.Cut(uri, "/")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		return beginning(uri[at+1:])
	}
	return "", false
}

// beginning is the longest beginning of a URI that is a reference and ends where a part of it does.
func beginning(uri string) (string, bool) {
	if isReference(uri) {
		return uri, true
	}
	const separators = "/:@"
	image := referencePrefix.FindString(uri)
	if len(image) < len(uri) && strings.IndexByte(separators, uri[len(image)]) < 0 {
		image = image[:max(0, strings.LastIndexAny(image, separators))]
	}
	// What matches and still is no reference has a digest of the wrong length: it takes a few cuts to be rid of that.
	for range 4 {
		if image == "" || strings.Contains(image, "/") != strings.Contains(uri, "/") {
			break
		}
		if isReference(image) {
			return image, true
		}
		image = image[:max(0, strings.LastIndexAny(image, separators))]
	}
	return "", false
}

func isReference(image string) bool {
	_, err := Parse(image)
	return err == nil || errors.Is(err, ErrImageID)
}

// HasPlaceholder says whether a reference, or what stands for one, holds a placeholder that somebody is yet to fill in:
// $(NAME), ${NAME}, $NAME, <NAME>, {{ name }} or {name}. No reference holds any of these.
func HasPlaceholder(text string) bool {
	for i := range len(text) {
		if placeholder(text[i:]) > 0 {
			return true
		}
	}
	return false
}

// placeholder is the length of the placeholder with which a text begins; 0 where it begins with none. One that is not
// closed ends at the next space.
func placeholder(text string) int {
	if len(text) < 2 {
		return 0
	}
	var closed string
	switch next := text[1]; {
	case text[0] == '$' && next == '{', text[0] == '{' && isNameByte(next):
		closed = "}"
	case text[0] == '$' && next == '(':
		closed = ")"
	case text[0] == '{' && next == '{':
		closed = "}}"
	case text[0] == '<' && isNameByte(next):
		closed = ">"
	case text[0] == '$' && isNameByte(next):
		end := 2
		for end < len(text) && isNameByte(text[end]) {
			end++
		}
		return end
	default:
		return 0
	}
	text = text[:min(len(text), maxMention)]
	if end := strings.Index(text, closed); end >= 0 {
		return end + len(closed)
	}
	if end := strings.IndexAny(text, " \t\r\n"); end >= 0 {
		return end
	}
	return len(text)
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}
