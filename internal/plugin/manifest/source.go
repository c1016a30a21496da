package manifest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// fetchTimeout bounds the download of a URL.
const fetchTimeout = 30 * time.Second

// source is something that holds documents.
type source struct {
	name string
	read func() ([]byte, error)
}

func (r Reader) sources(ctx context.Context, o resource.FilenameOptions) ([]source, []*Error) {
	if o.Kustomize != "" {
		return []source{{o.Kustomize, func() ([]byte, error) { return buildKustomization(o.Kustomize) }}}, nil
	}
	var all []source
	var errs []*Error
	for _, name := range o.Filenames {
		switch {
		case name == "-":
			all = append(all, source{Stdin, func() ([]byte, error) { return readBounded(r.Stdin) }})
		case isURL(name):
			all = append(all, source{name, func() ([]byte, error) { return fetch(ctx, name) }})
		default:
			paths, err := expand(name, o.Recursive)
			if err != nil {
				errs = append(errs, &Error{Place: Place{File: name}, Err: err})
			}
			for _, path := range paths {
				all = append(all, source{path, func() ([]byte, error) { return readFile(path) }})
			}
		}
	}
	return all, errs
}

// expand lists the files that a path or pattern names: of a directory those with the extensions that kubectl reads.
func expand(name string, recursive bool) ([]string, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if matches, globErr := filepath.Glob(name); globErr == nil && len(matches) > 0 {
			return expandAll(matches, recursive)
		}
	}
	if err != nil {
		return nil, reason(err)
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	var paths []string
	// The separator makes a link to a directory walked like the directory.
	root := strings.TrimSuffix(name, string(filepath.Separator)) + string(filepath.Separator)
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && !recursive:
			return filepath.SkipDir
		case !entry.IsDir() && slices.Contains(resource.FileExtensions, filepath.Ext(path)):
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("the directory has no file with extension %s", strings.Join(resource.FileExtensions, ", "))
	}
	return paths, nil
}

func expandAll(names []string, recursive bool) ([]string, error) {
	var paths []string
	for _, name := range names {
		more, err := expand(name, recursive)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		paths = append(paths, more...)
	}
	return paths, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close() //nolint:errcheck // It was only read.
	content, err := readBounded(f)
	return content, reason(err)
}

// reason leaves out the path of an error, which stands beside it.
func reason(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// readBounded reads UTF-8 or, where there is a byte order mark, UTF-16.
func readBounded(r io.Reader) ([]byte, error) {
	decoded := transform.NewReader(r, unicode.BOMOverride(unicode.UTF8.NewDecoder()))
	content, err := io.ReadAll(io.LimitReader(decoded, maxSource+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxSource {
		return nil, fmt.Errorf("larger than %d MiB", maxSource>>20)
	}
	return content, nil
}

func isURL(name string) bool {
	u, err := url.Parse(name)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

func fetch(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // It was only read.
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", response.Status)
	}
	return readBounded(response.Body)
}

func buildKustomization(directory string) ([]byte, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy
	built, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), directory)
	if err != nil {
		return nil, err
	}
	return built.AsYaml()
}
