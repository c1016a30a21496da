package manifest

import (
	"bytes"
	"unicode/utf8"
)

// section is the part of a file between two document markers of YAML.
type section struct {
	content []byte
	// line is the file's line, from 1, on which content begins.
	line int
}

// split cuts a file at the document markers --- and ..., as https://yaml.org/spec/1.1/#id898785 has them: at the start of
// a line, before white space or the end of the line. What the YAML library takes for a second document it would leave out,
// so that lines end here wherever they do there. Sections that hold nothing but comments and directives are left out.
func split(content []byte) []section {
	var sections []section
	start, startLine, line := 0, 1, 1
	blank := true
	cut := func(end int) {
		if !blank {
			sections = append(sections, section{content: content[start:end], line: startLine})
		}
		blank = true
	}
	for at := 0; at < len(content); line++ {
		end, next := lineEnd(content, at)
		text := content[at:end]
		switch {
		case isMarker(text, "..."):
			cut(at)
			start, startLine = next, line+1
		case isMarker(text, "---"):
			cut(at)
			start, startLine = next, line+1
			if holdsSomething(text[len("---"):]) {
				// What stands behind the marker belongs to the document: the marker is kept for the sake of columns.
				start, startLine, blank = at, line, false
			}
		case blank && (!holdsSomething(text) || text[0] == '%'):
			// A directive belongs to the document behind it, and changes nothing in what we read.
			if len(text) > 0 && text[0] == '%' {
				start, startLine = next, line+1
			}
		default:
			blank = false
		}
		at = next
	}
	cut(len(content))
	return sections
}

func isMarker(line []byte, marker string) bool {
	if !bytes.HasPrefix(line, []byte(marker)) {
		return false
	}
	return len(line) == len(marker) || line[len(marker)] == ' ' || line[len(marker)] == '\t'
}

// holdsSomething says whether a line is more than white space and a comment.
func holdsSomething(line []byte) bool {
	line = bytes.TrimLeft(line, " \t")
	return len(line) > 0 && line[0] != '#'
}

// lineEnd returns where the line that begins at an index ends, and where the next one begins.
func lineEnd(content []byte, at int) (end, next int) {
	for i := at; i < len(content); i++ {
		switch content[i] {
		case '\n':
			return i, i + 1
		case '\r':
			if i+1 < len(content) && content[i+1] == '\n' {
				return i, i + 2
			}
			return i, i + 1
		case 0xC2, 0xE2:
			r, size := utf8.DecodeRune(content[i:])
			if r == '\u0085' || r == '\u2028' || r == '\u2029' {
				return i, i + size
			}
		}
	}
	return len(content), len(content)
}
