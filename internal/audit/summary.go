package audit

import (
	"fmt"
	"strings"
)

// maxSummary is the bound of a record's summary. The schema of ModelAuditRecord says the same, in characters.
const maxSummary = 480

// Summary says in words what the first of a record's entries is about, and how many follow it:
// "KeyReleased acme-chat-7b to ml-prod/llm-7d9f-x (+3 more)". At most 512 bytes.
func Summary(first Entry, more int) string {
	words := []string{string(first.Type)}
	add := func(preposition, what string) {
		if what != "" {
			words = append(words, preposition+what)
		}
	}
	pod := qualified(first.Namespace, first.Pod.Name)
	if first.Pod.Name == "" && first.Owner.Name != "" {
		pod = qualified(first.Namespace, strings.ToLower(first.Owner.Kind)+"/"+first.Owner.Name)
	}
	switch first.Type {
	case Admitted:
		add("", pod)
		add("under ", first.License.Name)
	case KeyReleased:
		add("", first.License.Name)
		add("to ", pod)
	case Denied, KeyRefused, Found, DenialsRepeated:
		if first.Type == DenialsRepeated {
			add("", fmt.Sprintf("%d times", first.Count))
		}
		add("", string(first.Reason))
		add("for ", pod)
		if first.License.Name != "" {
			add("of ", first.License.Name)
		} else if len(first.Images) > 0 {
			add("of ", first.Images[0])
		}
	case Revoked, RevokedPodEnded, KeyWiped, SeatEnded:
		if first.Pod.Name == "" { // it was gone when its end was told
			pod = qualified(first.Namespace, first.Pod.UID)
		}
		add("", string(first.Reason))
		add("for ", pod)
		add("of ", first.License.Name)
	case Exec:
		add("", string(first.Reason))
		add("", pod)
		add("under ", first.License.Name)
		add("by ", first.Actor)
	case CopyDetected, CopyEvicted:
		add("of ", first.License.Name)
		add("in ", pod)
	case LicenseCreated, LicenseChanged, LicenseDeleted:
		add("", first.License.Name)
		add("by ", first.Actor)
	case GrantCreated, GrantChanged, GrantDeleted:
		add("", qualified(first.Namespace, first.Grant.Name))
		add("of ", first.License.Name)
		add("by ", first.Actor)
	case Gap:
		add("", fmt.Sprintf("of %d", first.Count))
		add("", string(first.Reason))
		add("in ", first.Namespace)
	default:
		add("", first.Message)
	}
	summary, _ := boundText(strings.Join(words, " "), maxSummary, jsonBytes)
	if more > 0 {
		summary += fmt.Sprintf(" (+%d more)", more)
	}
	return summary
}

func qualified(namespace, name string) string {
	if namespace == "" || name == "" {
		return namespace + name
	}
	return namespace + "/" + name
}
