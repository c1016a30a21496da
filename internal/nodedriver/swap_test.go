package nodedriver

import (
	"slices"
	"testing"
)

func TestParseSwapAreas(t *testing.T) {
	const heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	tests := map[string]struct {
		text string
		want []string
	}{
		"none":       {text: heading},
		"empty file": {text: ""},
		"a partition": {text: heading + "/dev/sda2                               partition\t8388604\t\t0\t\t-2\n",
			want: []string{"/dev/sda2"}},
		"a file and zram": {text: heading + "/swap\\040file file 1 0 -3\n/dev/zram0 partition 1 0 100",
			want: []string{"/swap\\040file", "/dev/zram0"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := parseSwapAreas([]byte(tc.text)); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
