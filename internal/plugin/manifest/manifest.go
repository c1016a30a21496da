// Package manifest reads Kubernetes objects of any kind from files, directories, URLs, kustomizations and standard input,
// without a cluster. It reads as kubectl does, but goes on behind what is broken and says where that was.
package manifest

import (
	"context"
	"fmt"
	"io"
	"strings"

	"k8s.io/cli-runtime/pkg/resource"
)

// Stdin is how objects from standard input name their file.
const Stdin = "STDIN"

// maxSource bounds what is read from one file, URL or standard input, in bytes.
const maxSource = 64 << 20

// Object is an object of a manifest.
type Object struct {
	// Place says where it was read.
	Place
	// Content is the object as it stands there; apiVersion, kind and metadata may be missing.
	Content map[string]any
}

// Place is where something stands in what was read.
type Place struct {
	// File is the file or the URL, the directory of a kustomization, or Stdin.
	File string
	// Document counts the documents of the file that hold something, from 1; 0 speaks of the file as a whole.
	Document int
	// Line is the first line of the document, from 1; 0 where Document is.
	Line int
	// Item is the path in the document, where it is a List, of the item that is spoken of, such as items[0].
	Item string
}

// String is the place for messages.
func (p Place) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Document > 0 {
		fmt.Fprintf(&b, ": document %d (line %d)", p.Document, p.Line)
	}
	if p.Item != "" {
		b.WriteString(", " + p.Item)
	}
	return b.String()
}

// Error is what could not be read, and where.
type Error struct {
	Place
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Place, e.Err) }

// Unwrap returns what went wrong.
func (e *Error) Unwrap() error { return e.Err }

// Reader reads manifests.
type Reader struct {
	// Stdin is what the file name - stands for.
	Stdin io.Reader
}

// Read returns every object of what the options name, in the order in which they stand there, and what could not be read.
// Lists are taken apart. An error about one document or file does not stop the others from being read.
func (r Reader) Read(ctx context.Context, o resource.FilenameOptions) ([]Object, []*Error) {
	var objects []Object
	sources, errs := r.sources(ctx, o)
	for _, s := range sources {
		content, err := s.read()
		if err != nil {
			errs = append(errs, &Error{Place: Place{File: s.name}, Err: err})
			continue
		}
		found, broken := Parse(s.name, content)
		objects, errs = append(objects, found...), append(errs, broken...)
	}
	return objects, errs
}
