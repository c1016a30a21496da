package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keyDirectory is where keys are mounted, and keyFileVariable names the file or the directory.
const (
	keyDirectory    = "/var/run/modelrights"
	keyFileVariable = "MODELRIGHTS_KEY_FILE"
)

// Facts are what a container sees of keys.
type Facts struct {
	// KeyFile is the variable's value, empty where it is not set.
	KeyFile string `json:"keyFile"`
	// Files are all files under the key directory.
	Files []File `json:"files"`
	// Mounts are the lines of /proc/mounts that speak of the key directory.
	Mounts []string `json:"mounts"`
	// Writable are the directories of keys in which the container could make a file.
	Writable []string `json:"writable"`
}

// File is a file without its content.
type File struct {
	Path   string `json:"path"`
	Mode   string `json:"mode"`
	SHA256 string `json:"sha256"`
	Error  string `json:"error,omitempty"`
}

// LookAround gathers the facts below a root directory.
func LookAround(root string) Facts {
	facts := Facts{KeyFile: os.Getenv(keyFileVariable), Files: []File{}, Mounts: []string{}, Writable: []string{}}
	dir := filepath.Join(root, keyDirectory)
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // A directory that cannot be read holds nothing for this container.
		}
		if entry.IsDir() {
			if test, err := os.CreateTemp(path, "written-by-probe-"); err == nil {
				facts.Writable = append(facts.Writable, path)
				_ = test.Close()
				_ = os.Remove(test.Name())
			}
			return nil
		}
		facts.Files = append(facts.Files, look(path, entry))
		return nil
	})
	mounts, _ := os.ReadFile(filepath.Join(root, "proc/mounts"))
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], keyDirectory) {
			facts.Mounts = append(facts.Mounts, strings.TrimSpace(line))
		}
	}
	return facts
}

func look(path string, entry fs.DirEntry) File {
	file := File{Path: path}
	if info, err := entry.Info(); err == nil {
		file.Mode = info.Mode().String()
	}
	content, err := os.ReadFile(path)
	if err != nil {
		file.Error = err.Error()
		return file
	}
	sum := sha256.Sum256(content)
	file.SHA256 = hex.EncodeToString(sum[:])
	return file
}
