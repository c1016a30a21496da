package webhooks

import (
	"fmt"
	"strings"
)

const (
	// maxWarning bounds one admission warning and maxWarned the refusals that are warned about, in bytes and in number:
	// API servers cut off what is longer than 256 and drop what is beyond 4,096 bytes in all.
	maxWarning = 256
	maxWarned  = 6
)

// workloadMessage is that of a denied pod, but calls the workload by its kind in lower case.
func workloadMessage(kind string, denied []refusal) string {
	return "modelrights: " + clip(strings.ToLower(kind), maxName) + strings.TrimPrefix(denialMessage(denied), "modelrights: pod")
}

// workloadWarnings tell of refusals, each in a line that says what is wrong and one that says what to do.
func workloadWarnings(kind string, warned []refusal, truncated bool) []string {
	kind = clip(kind, maxName)
	var lines []string
	told, more := map[string]bool{}, 0
	for _, r := range warned {
		text := r.Message + r.remedy
		if told[text] {
			continue
		}
		if len(told) == maxWarned {
			more++
			continue
		}
		told[text] = true
		head := fmt.Sprintf("modelrights: pods of this %s will be denied [%s]: ", kind, r.Reason)
		lines = append(lines, clip(head+clip(r.place, maxWarning/3)+": "+r.Message, maxWarning))
		if r.remedy != "" {
			lines = append(lines, clip("modelrights: "+r.remedy, maxWarning))
		}
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("modelrights: and %d more", more))
	}
	if truncated {
		lines = append(lines, truncatedWarning(kind))
	}
	return lines
}

func truncatedWarning(kind string) string {
	return clip(fmt.Sprintf("modelrights: this %s is too large to be looked at as a whole; its pods will be", kind), maxWarning)
}
