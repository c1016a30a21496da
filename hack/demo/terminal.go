package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// commandTimeout bounds every command. Those that wait have shorter limits of their own.
const commandTimeout = 5 * time.Minute

// terminal runs commands and shows them and what they print, as a person would see it.
type terminal struct {
	ctx    context.Context
	screen io.Writer
	// programs maps the names in commands to files.
	programs map[string]string
}

// result is how a command ended.
type result struct {
	stdout string
	// text is everything that was printed, errors too.
	text string
	err  error
}

// run shows a command, runs it, and shows what it prints.
func (t *terminal) run(args ...string) result { return t.runWith("", args...) }

// runWith gives the command an input, which is shown too.
func (t *terminal) runWith(stdin string, args ...string) result {
	if stdin == "" {
		fmt.Fprintf(t.screen, "$ %s\n", shown(args))
	} else {
		fmt.Fprintf(t.screen, "$ %s <<'EOF'\n%s\nEOF\n", shown(args), strings.TrimSpace(stdin))
	}
	r := t.quietly(stdin, args...)
	if text := strings.TrimRight(r.text, "\n"); text != "" {
		fmt.Fprintln(t.screen, text)
	}
	if _, ok := errors.AsType[*exec.ExitError](r.err); r.err != nil && !ok {
		fmt.Fprintln(t.screen, r.err)
	}
	return r
}

// quietly runs a command without showing it.
func (t *terminal) quietly(stdin string, args ...string) result {
	ctx, cancel := context.WithTimeout(t.ctx, commandTimeout)
	defer cancel()
	program := args[0]
	if file, ok := t.programs[program]; ok {
		program = file
	}
	command := exec.CommandContext(ctx, program, args[1:]...)
	command.Env = os.Environ()
	command.Stdin = strings.NewReader(stdin)
	var stdout bytes.Buffer
	var text lockedBuffer
	command.Stdout = io.MultiWriter(&stdout, &text)
	command.Stderr = &text
	err := command.Run()
	return result{stdout: stdout.String(), text: text.String(), err: err}
}

// lockedBuffer takes what a command writes to both of its outputs, each copied by a goroutine of its own.
type lockedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

// Write appends.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

// String is everything that was written.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// must is nil for a command that succeeded.
func (r result) must() error {
	if r.err != nil {
		return fmt.Errorf("the command failed: %w", r.err)
	}
	return nil
}

// refused is nil for a command that failed and said all of the words.
func (r result) refused(words ...string) error {
	if r.err == nil {
		return errors.New("it was accepted, and should have been refused")
	}
	return r.says(words...)
}

// says is nil where all of the words were printed.
func (r result) says(words ...string) error {
	for _, word := range words {
		if !strings.Contains(r.text, word) {
			return fmt.Errorf("%q is missing in the output", word)
		}
	}
	return nil
}

// eventually tries until a command, which it shows only once it is as wanted, prints all of the words.
func (t *terminal) eventually(timeout time.Duration, words []string, args ...string) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if r := t.quietly("", args...); r.err == nil && r.says(words...) == nil {
			return t.run(args...).must()
		}
		select {
		case <-t.ctx.Done():
			return t.ctx.Err()
		case <-deadline.C:
			return errors.Join(fmt.Errorf("still not after %s", timeout), t.run(args...).says(words...))
		case <-tick.C:
		}
	}
}

// shown is a command as one would type it.
func shown(args []string) string {
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = arg
		if arg == "" || strings.ContainsAny(arg, " '\"{}()[]*?$&;<>|\\") {
			words[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	words[0] = filepath.Base(words[0])
	return strings.Join(words, " ")
}
