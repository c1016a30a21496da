package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// push sends the image to the registry its reference names. The library speaks plain HTTP to
// loopback and to private IPv4 addresses (RFC 1918) only.
func push(ctx context.Context, reference name.Tag, image v1.Image) error {
	err := remote.Write(reference, image, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return fmt.Errorf("push %s: is the registry up, and may you write to it? %w", reference, err)
	}
	return nil
}

// writeLayoutTar writes a tar of an OCI image layout, which `ctr images import`, skopeo and crane read. The annotations
// give the image its name on import.
func writeLayoutTar(file string, spec imageSpec, image v1.Image) (err error) {
	dir, err := os.MkdirTemp("", "image-layout-")
	if err != nil {
		return fmt.Errorf("make a directory for the image layout: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	target, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write the image layout: %w", err)
	}
	err = target.AppendImage(image, layout.WithPlatform(v1.Platform{OS: spec.os, Architecture: spec.architecture}),
		layout.WithAnnotations(map[string]string{
			"org.opencontainers.image.ref.name": spec.reference.TagStr(),
			"io.containerd.image.name":          spec.reference.Name(),
		}))
	if err != nil {
		return fmt.Errorf("write the image layout: %w", err)
	}
	sources := map[string]string{}
	err = filepath.WalkDir(dir, func(local string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(dir, local)
		sources["/"+filepath.ToSlash(relative)] = local
		return err
	})
	if err != nil {
		return fmt.Errorf("list the image layout: %w", err)
	}
	return replaceFile(file, func(out io.Writer) error { return writeTar(out, sources) })
}

// replaceFile writes a file beside the target and renames it, so that a reader never sees half of it.
func replaceFile(file string, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("--output %s: %w", file, err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-")
	if err != nil {
		return fmt.Errorf("--output %s: %w", file, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("--output %s: %w", file, err), os.Remove(temporary.Name()))
		}
	}()
	if err := errors.Join(write(temporary), temporary.Chmod(0o644), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), file)
}
