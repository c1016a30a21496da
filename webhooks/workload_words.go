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

// workloadWarnings tell of refusals, and of those that admission tolerates.
func workloadWarnings(kind string, warned []refusal, truncated bool) []string {
	kind = clip(kind, maxName)
	lines := warningsOf(warned, func(r *refusal) string {
		if r.tolerated {
			return fmt.Sprintf("modelrights: pods of this %s are not entitled, and admitted all the same [%s]: ", kind, r.Reason)
		}
		return fmt.Sprintf("modelrights: pods of this %s will be denied [%s]: ", kind, r.Reason)
	})
	if truncated {
		lines = append(lines, truncatedWarning(kind))
	}
	return lines
}

// warningsOf tells of refusals, each in a line that says what is wrong, after its head, and one that says what to do.
func warningsOf(warned []refusal, head func(*refusal) string) []string {
	var lines []string
	told, more := map[string]bool{}, 0
	for i := range warned {
		r := &warned[i]
		text := r.Message + r.remedy
		if told[text] {
			continue
		}
		if len(told) == maxWarned {
			more++
			continue
		}
		told[text] = true
		lines = append(lines, clip(head(r)+clip(r.place, maxWarning/3)+": "+r.Message, maxWarning))
		if r.remedy != "" {
			lines = append(lines, clip("modelrights: "+r.remedy, maxWarning))
		}
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("modelrights: and %d more", more))
	}
	return lines
}

func truncatedWarning(kind string) string {
	return clip(fmt.Sprintf("modelrights: this %s is too large to be looked at as a whole; its pods will be", kind), maxWarning)
}
