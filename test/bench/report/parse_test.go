package main

import (
	"reflect"
	"strings"
	"testing"
)

const output = `goos: linux
goarch: amd64
pkg: modelrights.dev/modelrights/test/bench
cpu: Intel(R) Xeon(R) Processor
BenchmarkDecide
BenchmarkDecide/Entitled-2         	 1000000	      1335 ns/op	     112 B/op	       2 allocs/op
BenchmarkApply/Grant 	   10000	    103464.5 ns/op
PASS
ok  	modelrights.dev/modelrights/test/bench	17.474s
`

func TestParse(t *testing.T) {
	got, err := parse(strings.NewReader(output))
	if err != nil {
		t.Fatal(err)
	}
	entitled := Result{"Decide/Entitled", 2, 1000000, map[string]float64{"ns/op": 1335, "B/op": 112, "allocs/op": 2}}
	grant := Result{"Apply/Grant", 1, 10000, map[string]float64{"ns/op": 103464.5}}
	want := &Report{GOOS: "linux", GOARCH: "amd64", CPU: "Intel(R) Xeon(R) Processor", Results: []Result{entitled, grant}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("parsed %+v, want %+v", got, want)
	}
	parts := got.split()
	if len(parts) != 2 || !reflect.DeepEqual(parts["Decide"].Results, []Result{entitled}) || parts["Apply"].CPU != want.CPU {
		t.Errorf("split into %+v", parts)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":      "PASS\n",
		"a failure":    "--- FAIL: BenchmarkDecide\n" + output,
		"no number":    "BenchmarkDecide-2 many 1 ns/op\n",
		"no unit":      "BenchmarkDecide-2 1 2 ns/op 3\n",
		"a bad figure": "BenchmarkDecide-2 1 x ns/op\n",
	} {
		if r, err := parse(strings.NewReader(text)); err == nil {
			t.Errorf("%s: parsed %+v", name, r)
		}
	}
}
