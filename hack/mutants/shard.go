package main

import (
	"fmt"
	"strings"
)

// selectFrom are the mutants whose names hold a text, and of these the part that is named as NUMBER/OF: all where it is
// empty. Each mutant is in exactly one part. Those whose tests are the same are in one, since the tests are run once on the
// code as it is; so parts differ a little in size.
func selectFrom(all []mutant, only, part string) ([]mutant, error) {
	number, of := 1, 1
	if part != "" {
		var rest string
		if n, _ := fmt.Sscanf(part+" .", "%d/%d %s", &number, &of, &rest); n != 3 || rest != "." || number < 1 || number > of {
			return nil, fmt.Errorf("-shard %s is none: NUMBER/OF, for example 2/8, from 1/8 to 8/8", part)
		}
	}
	var selected []mutant
	groups := map[string]int{}
	for _, m := range all {
		if !strings.Contains(m.Name, only) {
			continue
		}
		tests := strings.Join(m.selection(), " ")
		if _, known := groups[tests]; !known {
			groups[tests] = len(groups)
		}
		if groups[tests]%of == number-1 {
			selected = append(selected, m)
		}
	}
	if len(selected) == 0 {
		return nil, fmt.Errorf("no mutant is selected: none of %d has a name with %q in part %q", len(all), only, part)
	}
	return selected, nil
}
