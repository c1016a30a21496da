package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layerOf makes a layer of one file, or of all regular files under a directory. Owner is root, modes are 0755 for
// what somebody may execute and 0644 for the rest, times are fixed: nothing of the machine gets into the digest.
func layerOf(entry fileEntry) (v1.Layer, error) {
	sources, err := collect(entry)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	if err := writeTar(&content, sources); err != nil {
		return nil, fmt.Errorf("make a layer of %s: %w", entry.local, err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("make a layer of %s: %w", entry.local, err)
	}
	return layer, nil
}

// collect lists what goes into a layer, by its path in the image.
func collect(entry fileEntry) (map[string]string, error) {
	info, err := os.Stat(entry.local)
	if err != nil {
		return nil, fmt.Errorf("--file %s: build it first, or correct the path: %w", entry.local, err)
	}
	if !info.IsDir() {
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("--file %s: neither a regular file nor a directory", entry.local)
		}
		if entry.target == "/" {
			return nil, fmt.Errorf("--file %s: name the file in the image, such as /%s", entry.local, filepath.Base(entry.local))
		}
		return map[string]string{entry.target: entry.local}, nil
	}
	sources := map[string]string{}
	err = filepath.WalkDir(entry.local, func(local string, dirEntry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if dirEntry.IsDir() {
			return nil
		}
		if !dirEntry.Type().IsRegular() {
			return fmt.Errorf("%s is no regular file; links and devices do not belong in these images", local)
		}
		relative, err := filepath.Rel(entry.local, local)
		if err != nil {
			return err
		}
		sources[path.Join(entry.target, filepath.ToSlash(relative))] = local
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("--file %s: %w", entry.local, err)
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("--file %s: the directory holds no file", entry.local)
	}
	return sources, nil
}

// writeTar writes the files and the directories above them, sorted by their path in the image.
func writeTar(out io.Writer, sources map[string]string) error {
	paths := map[string]bool{}
	for target := range sources {
		paths[target] = false
		for dir := path.Dir(target); dir != "/"; dir = path.Dir(dir) {
			paths[dir] = true
		}
	}
	sorted := make([]string, 0, len(paths))
	for target := range paths {
		sorted = append(sorted, target)
	}
	sort.Strings(sorted)
	writer := tar.NewWriter(out)
	for _, target := range sorted {
		if paths[target] {
			header := tarHeader(target+"/", 0o755, 0)
			header.Typeflag = tar.TypeDir
			if err := writer.WriteHeader(header); err != nil {
				return fmt.Errorf("directory %s: %w", target, err)
			}
			continue
		}
		if err := writeFile(writer, target, sources[target]); err != nil {
			return err
		}
	}
	return writer.Close()
}

func writeFile(writer *tar.Writer, target, local string) error {
	file, err := os.Open(local)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	if err := writer.WriteHeader(tarHeader(target, mode, info.Size())); err != nil {
		return fmt.Errorf("file %s: %w", target, err)
	}
	if _, err := io.Copy(writer, file); err != nil {
		return fmt.Errorf("file %s: %w", local, err)
	}
	return nil
}

func tarHeader(target string, mode, size int64) *tar.Header {
	return &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     strings.TrimPrefix(target, "/"),
		Mode:     mode,
		Size:     size,
		ModTime:  created,
		Format:   tar.FormatPAX,
	}
}
