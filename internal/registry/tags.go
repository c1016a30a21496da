package registry

import (
	"context"
	"regexp"
	"slices"
	"strings"
)

const (
	// maxTagPages and tagPage bound how many tags are read of a repository.
	maxTagPages = 20
	tagPage     = 500
	// maxTagLength is that of the distribution specification.
	maxTagLength = 128
)

// Tags are the tags of a repository.
type Tags struct {
	// Names are the tags, the newest version first as far as names tell: digits are compared as numbers, from high to
	// low. Tags that hold signatures and the like of other images are left out.
	Names []string
	// Cut says that the repository has more tags than were read.
	Cut bool
}

var (
	tagGrammar = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	// referrerTag is how registries without an API for it keep what refers to an image: sha256-HEX, and with cosign a
	// suffix such as .sig. https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema
	referrerTag = regexp.MustCompile(`^sha(256|512)-[0-9a-f]{32,}`)
)

// Tags lists the tags of a repository in normal form. At most 20 pages of 500 tags are read.
func (c *Client) Tags(ctx context.Context, a *Access, repository string) (Tags, error) {
	puller, repo, err := c.puller(a, repository)
	if err != nil {
		return Tags{}, problem("tags of "+repository, err)
	}
	lister, err := puller.Lister(ctx, repo)
	if err != nil {
		return Tags{}, problem("tags of "+repository, err)
	}
	var found Tags
	seen := map[string]bool{}
	for page := 0; lister.HasNext(); page++ {
		if page == maxTagPages {
			found.Cut = true
			break
		}
		tags, err := lister.Next(ctx)
		if err != nil {
			return Tags{}, problem("tags of "+repository, err)
		}
		before := len(seen)
		for _, tag := range tags.Tags {
			if len(tag) > maxTagLength || seen[tag] || !tagGrammar.MatchString(tag) || referrerTag.MatchString(tag) {
				continue
			}
			if len(seen) == maxTagPages*tagPage {
				found.Cut = true
				break
			}
			seen[tag] = true
			found.Names = append(found.Names, tag)
		}
		if found.Cut || page > 0 && len(tags.Tags) > 0 && len(seen) == before && repeats(seen, tags.Tags) {
			// A registry that shows the same page over and over.
			break
		}
	}
	slices.SortFunc(found.Names, func(x, y string) int { return compareVersions(y, x) })
	return found, nil
}

func repeats(seen map[string]bool, tags []string) bool {
	return slices.ContainsFunc(tags, func(tag string) bool { return seen[tag] })
}

// compareVersions orders names so that runs of digits count as numbers: v9 comes before v10.
func compareVersions(x, y string) int {
	for a, b := x, y; a != "" || b != ""; {
		var partA, partB string
		partA, a = cutRun(a)
		partB, b = cutRun(b)
		if isNumber(partA) && isNumber(partB) {
			numberA, numberB := strings.TrimLeft(partA, "0"), strings.TrimLeft(partB, "0")
			if len(numberA) != len(numberB) {
				return len(numberA) - len(numberB)
			}
			partA, partB = numberA, numberB
		}
		if order := strings.Compare(partA, partB); order != 0 {
			return order
		}
	}
	return strings.Compare(x, y)
}

// cutRun cuts the digits, or everything but digits, with which a name begins.
func cutRun(name string) (run, rest string) {
	for i := 1; i < len(name); i++ {
		if isDigit(name[i]) != isDigit(name[0]) {
			return name[:i], name[i:]
		}
	}
	return name, ""
}

func isNumber(run string) bool { return run != "" && isDigit(run[0]) }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
