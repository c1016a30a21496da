package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"
)

// maxKeyFile bounds what ReadKeys reads, in bytes. A hybrid identity is about 80; a licence has at most 8 keys.
const maxKeyFile = 64 << 10

// ErrNoKey means that a key file holds no usable key. Errors of this package never quote what the file holds.
var ErrNoKey = errors.New("no usable key")

// ReadKeys reads model keys as age identities, one a line; empty lines and lines that start with # are ignored. Several
// keys are usual while a model moves from one key to the next.
func ReadKeys(r io.Reader) ([]age.Identity, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("read keys: %w: more than %d bytes", ErrNoKey, maxKeyFile)
	}
	// age's own error may quote a piece of the line, so it is not passed on.
	keys, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read keys: %w: want age identities, one a line, such as AGE-SECRET-KEY-PQ-1…", ErrNoKey)
	}
	return keys, nil
}

// LoadKeys reads the keys that a pod finds under the path in MODELRIGHTS_KEY_FILE: a key file, or a directory with a
// directory for each licence and a file named key in each.
func LoadKeys(path string) ([]age.Identity, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	if !info.IsDir() {
		return loadKeyFile(path)
	}
	// Directories are listed rather than globbed, so that no character in the path has a meaning.
	licences, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	var keys []age.Identity
	for _, licence := range licences {
		if !licence.IsDir() {
			continue
		}
		more, err := loadKeyFile(filepath.Join(path, licence.Name(), "key"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, more...)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("load keys: %w: no directory in %s holds a file named key", ErrNoKey, path)
	}
	return keys, nil
}

func loadKeyFile(path string) (keys []age.Identity, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	keys, err = ReadKeys(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}
