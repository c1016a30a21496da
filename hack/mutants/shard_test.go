package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestPartsAreAll(t *testing.T) {
	all, err := readList("mutants.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for only, parts := range map[string]int{"": 8, "exec": 2} {
		whole, err := selectFrom(all, only, "")
		if err != nil {
			t.Fatal(err)
		}
		seen, tests := map[string]string{}, map[string]string{}
		for i := range parts {
			part := fmt.Sprintf("%d/%d", i+1, parts)
			selected, err := selectFrom(all, only, part)
			if err != nil {
				t.Error(err)
			}
			for _, m := range selected {
				if seen[m.Name] != "" {
					t.Errorf("%s is in parts %s and %s", m.Name, seen[m.Name], part)
				}
				seen[m.Name] = part
				selection := strings.Join(m.selection(), " ")
				if other := tests[selection]; other != "" && other != part {
					t.Errorf("tests %s run in parts %s and %s", selection, other, part)
				}
				tests[selection] = part
			}
		}
		if len(seen) != len(whole) {
			t.Errorf("the parts have %d mutants with %q in their names, of %d", len(seen), only, len(whole))
		}
	}
}

func TestSelect(t *testing.T) {
	all := []mutant{{Name: "host-case", File: "a/a.go", Run: "TestA"}, {Name: "host-port", File: "a/a.go", Run: "TestB"}, {Name: "queue", File: "b/b.go", Focus: "waits"}}
	for name, tc := range map[string]struct {
		only, part string
		want       string
	}{
		"all":                        {"", "", "host-case host-port queue"},
		"by name":                    {"host", "", "host-case host-port"},
		"the only part":              {"", "1/1", "host-case host-port queue"},
		"the first of two":           {"", "1/2", "host-case queue"},
		"the second of two":          {"", "2/2", "host-port"},
		"by name, and a part of it":  {"host", "2/2", "host-port"},
		"a name that nobody has":     {"nobody", "", ""},
		"a part that would be empty": {"queue", "2/2", ""},
		"a part after the last":      {"", "3/2", ""},
		"part zero":                  {"", "0/2", ""},
		"no number":                  {"", "one", ""},
		"half a part":                {"", "1/", ""},
		"more than a part":           {"", "1/2/3", ""},
	} {
		t.Run(name, func(t *testing.T) {
			selected, err := selectFrom(all, tc.only, tc.part)
			var names []string
			for _, m := range selected {
				names = append(names, m.Name)
			}
			if got := strings.Join(names, " "); got != tc.want || (err != nil) != (tc.want == "") {
				t.Errorf("selected %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestNothingIsSkippedSilently(t *testing.T) {
	all := []mutant{{Name: "first"}, {Name: "second"}, {Name: "third"}, {Name: "fourth"}}
	green := errors.New("the tests pass without the guard")
	for name, tc := range map[string]struct {
		selected []mutant
		wrong    string
		stopAt   string
		ok       bool
		says     []string
	}{
		"all red":     {selected: all, ok: true, says: []string{"4 of 4 are selected", "4 passed, 0 failed, 0 not run, 0 not selected"}},
		"a part":      {selected: all[:3], ok: true, says: []string{"3 of 4 are selected", "3 passed, 0 failed, 0 not run, 1 not selected"}},
		"one green":   {selected: all, wrong: "second", says: []string{"WRONG: the tests pass", "wrong: second", "3 passed, 1 failed, 0 not run, 0 not selected"}},
		"interrupted": {selected: all, stopAt: "second", says: []string{"third", "not run: context canceled", "1 passed, 0 failed, 3 not run, 0 not selected"}},
		"none":        {says: []string{"0 passed, 0 failed, 0 not run, 4 not selected"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var out strings.Builder
			ok := runAll(ctx, &out, all, tc.selected, func(_ context.Context, m mutant) error {
				switch m.Name {
				case tc.stopAt:
					cancel()
					return errors.New("killed")
				case tc.wrong:
					return green
				}
				return nil
			})
			if ok != tc.ok {
				t.Errorf("ok: %t, want %t", ok, tc.ok)
			}
			for _, want := range tc.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, &out)
				}
			}
		})
	}
}
