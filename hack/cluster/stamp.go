package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A stamp is a hash of everything that a build depends on, kept beside what was built. While it is the same, the build
// is skipped: even when nothing changed, linking Kubernetes anew takes most of a minute.

// stampOf hashes the words and the content of the files and directories, with their names relative to the root.
func stampOf(root string, words, paths []string) (string, error) {
	sum := sha256.New()
	for _, word := range words {
		fmt.Fprintf(sum, "word %d %s\n", len(word), word)
	}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(file, "_test.go") {
				return err
			}
			return hashFile(sum, root, file)
		})
		if err != nil {
			return "", fmt.Errorf("hash %s: %w", path, err)
		}
	}
	return fmt.Sprintf("%x\n", sum.Sum(nil)), nil
}

func hashFile(sum hash.Hash, root, file string) error {
	relative, err := filepath.Rel(root, file)
	if err != nil {
		return err
	}
	content, err := os.Open(file)
	if err != nil {
		return err
	}
	defer content.Close()
	info, err := content.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(sum, "file %s %d\n", filepath.ToSlash(relative), info.Size())
	_, err = io.Copy(sum, content)
	return err
}

// fresh says whether all outputs are there and were built from what the stamp says.
func fresh(stampFile, stamp string, outputs []string) (bool, error) {
	recorded, err := os.ReadFile(stampFile)
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(recorded) != stamp {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, output := range outputs {
		if _, err := os.Stat(output); err != nil {
			return false, nil
		}
	}
	return true, nil
}
