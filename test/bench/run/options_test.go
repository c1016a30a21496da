package run

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	errWrong := errors.New("nothing works")
	for name, tc := range map[string]struct {
		flags       []string
		interrupted bool
		fails       error
		kept        bool
	}{
		"done":                            {},
		"failed: the logs say why":        {fails: errWrong, kept: true},
		"interrupted":                     {interrupted: true, fails: context.Canceled},
		"done, and the logs were wanted":  {flags: []string{"-logs", "LOGS"}, kept: true},
		"failed, and profiles are wanted": {flags: []string{"-profiles", "PROFILES"}, fails: errWrong, kept: true},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			t.Setenv("TMPDIR", top)
			set := flag.NewFlagSet("test", flag.ContinueOnError)
			o := Register(set, "pace", time.Minute)
			args := []string{"-out", filepath.Join(top, "out")}
			for _, arg := range tc.flags {
				if strings.HasPrefix(arg, "-") {
					args = append(args, arg)
				} else {
					args = append(args, filepath.Join(top, arg))
				}
			}
			if err := set.Parse(args); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var dir string
			err := o.run(ctx, func(_ context.Context, r *Run) error {
				dir = r.Dir
				if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
					t.Errorf("the directory of the run: %v, %v", info, err)
				}
				if err := r.Profile("heap", func() ([]byte, error) { return []byte("profile"), nil }); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(filepath.Join(top, "PROFILES", "heap.pprof")); (err == nil) != r.Profiles() {
					t.Errorf("profiles wanted: %t, kept: %v", r.Profiles(), err)
				}
				if tc.interrupted {
					cancel()
				}
				return tc.fails
			})
			if !errors.Is(err, tc.fails) {
				t.Errorf("run = %v, want %v", err, tc.fails)
			}
			if _, statErr := os.Stat(dir); (statErr == nil) != tc.kept {
				t.Errorf("logs kept: %t, want %t", statErr == nil, tc.kept)
			}
			if temporary := len(tc.flags) == 0 || tc.flags[0] != "-logs"; tc.kept && temporary && !strings.Contains(err.Error(), dir) {
				t.Errorf("the error does not say where the logs are: %v", err)
			}
			if _, err := os.Stat(filepath.Join(top, "out")); err != nil {
				t.Errorf("there is no directory for results: %v", err)
			}
		})
	}
}
