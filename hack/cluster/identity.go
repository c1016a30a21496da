package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Identity tells one process from every other that had or will have its number: process numbers are reused, start
// times within one boot are not.
type Identity struct {
	PID     int    `json:"pid"`
	Started string `json:"started"`
	Boot    string `json:"boot"`
}

// alive says whether the very process that was recorded still runs. A zombie does not run.
func (i Identity) alive() bool {
	if i.PID <= 0 {
		return false
	}
	current, err := identify(i.PID)
	return err == nil && current == i
}

// signal sends a signal to the recorded process and to no other; it says whether the process was still there. The
// handle is taken before the check: where the system has process descriptors, the number cannot be reused in between.
func (i Identity) signal(sig os.Signal) (bool, error) {
	process, err := os.FindProcess(i.PID)
	if err != nil {
		return false, nil
	}
	defer process.Release() //nolint:errcheck // releasing a handle has no failure that matters here
	if !i.alive() {
		return false, nil
	}
	err = process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("signal process %d: %w", i.PID, err)
	}
	return true, nil
}

// readIdentity reads a process's record. A part that was never started has none, and a zero Identity.
func readIdentity(file string) (Identity, error) {
	var identity Identity
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return identity, nil
	}
	if err != nil {
		return identity, err
	}
	if err := json.Unmarshal(data, &identity); err != nil {
		return identity, fmt.Errorf("%s: %w", file, err)
	}
	return identity, nil
}

// writeIdentity records a process so that a crash leaves either the old record or the new one.
func writeIdentity(file string, identity Identity) error {
	data, err := json.Marshal(identity)
	if err != nil {
		return err
	}
	return writeFile(file, append(data, '\n'), 0o600)
}

// writeFile writes a file whole or not at all, with the directories above it.
func writeFile(file string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s.%d.tmp", file, os.Getpid())
	if err := os.WriteFile(temporary, data, mode); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}
