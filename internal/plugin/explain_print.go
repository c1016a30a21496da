package plugin

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/images"
)

// explanationPrinter writes explanations for people.
type explanationPrinter struct {
	w      io.Writer
	wide   bool
	colour bool
}

// checkTexts say what each check asks, in the order and by the names that entitlement has.
var checkTexts = map[string]string{
	"Reference":      "the reference can be read",
	"License":        "a licence covers the image, if it is governed",
	"Namespace":      "the licence names the namespace",
	"Suspended":      "the licence is not suspended",
	"NotBefore":      "the licence's time has come",
	"NotAfter":       "the licence's time is not over",
	"Digest":         "the image is named by a digest, where the licence asks for it",
	"Grant":          "a grant of the licence covers the pod",
	"Subject":        "the grant names the service account",
	"PodSelector":    "the grant selects the pod's labels",
	"GrantNotBefore": "the grant's own time has come",
	"GrantNotAfter":  "the grant's own time is not over",
	"Action":         "the licence allows the grant's action",
	"Purpose":        "the licence allows the grant's purpose",
	"Devices":        "the limits can count the pod's devices",
	"NodeSelector":   "the pod does not want other nodes than the licence",
}

func (p *explanationPrinter) list(list *ExplanationList) {
	for i := range list.Items {
		if i > 0 {
			p.line(0, "")
		}
		p.item(&list.Items[i])
	}
	if counts := countVerdicts(list); len(list.Items) > 0 {
		var parts []string
		for _, v := range []Verdict{Entitled, NotGoverned, Refused, Unknown, Unresolved} {
			if counts[v] > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", counts[v], p.paint(v)))
			}
		}
		p.line(0, "")
		p.line(0, "Summary: %s", strings.Join(parts, ", "))
	}
}

func (p *explanationPrinter) item(e *Explanation) {
	title := e.Object.String()
	if title == "" {
		title = "object"
	}
	if e.Template != "" && e.Template != "spec.template" {
		title += ", " + e.Template
	}
	p.line(0, "%s: %s", p.bold(visible(title)), p.paint(e.Verdict))
	if e.File != "" {
		p.line(1, "File:             %s", visible(placeOf(e.Origin)))
	}
	p.line(1, "Namespace:        %s%s", visible(e.Namespace), map[bool]string{true: " (exempt: pods are not looked at when they are created; keys are released to entitled pods alone)"}[e.NamespaceExempt])
	p.line(1, "Service account:  %s", visible(e.ServiceAccount))
	for i := range e.References {
		p.reference(&e.References[i])
	}
	for _, v := range slices.Concat(e.Volumes, e.Fields) {
		p.line(0, "")
		p.line(1, "%s: %s", visible(v.Path), p.paint(Refused))
		p.finding(2, v.Reason, v.Message, v.Remedy, v.Fixer)
	}
	if e.Admission != nil {
		p.admission(e.Admission)
	}
}

func placeOf(o Origin) string {
	s := o.File
	if o.Document > 0 {
		s += fmt.Sprintf(", document %d (line %d)", o.Document, o.Line)
	}
	if o.ListItem != "" {
		s += ", " + o.ListItem
	}
	return s
}

func (p *explanationPrinter) reference(r *ExplainedReference) {
	p.line(0, "")
	p.line(1, "%s: %s", p.bold(visible(r.Image)), p.paint(r.Verdict))
	where := r.Path
	switch {
	case r.Name == "":
	case isDeclaredKind(images.UseKind(r.Place)):
		where += fmt.Sprintf(" (%s %s)", r.Place, r.Name)
	default:
		where += fmt.Sprintf(" (%s of container %s)", r.Place, r.Name)
	}
	p.line(2, "Where:    %s, %s", visible(where), r.Confidence)
	if r.Original != "" {
		p.line(2, "Written:  %s; the operator completes it with the digest of its tag", visible(r.Original))
	}
	if p.wide && r.Normalized != "" && r.Normalized != r.Image {
		p.line(2, "Means:    %s", visible(r.Normalized))
	}
	if r.Doubt != "" {
		p.line(2, "Unknown:  %s", visible(r.Doubt))
		p.line(2, "As far as can be seen: %s", visible(r.Message))
	} else {
		p.finding(2, string(r.Reason), r.Message, r.Remedy, r.Fixer)
	}
	if r.Tolerated {
		p.line(2, "Admitted: all the same, since no licence that covers it enforces; it gets no key")
	}
	if len(r.Licenses) == 0 && (!p.wide || len(r.Checks) == 0) {
		return
	}
	p.line(2, "Checks:")
	if p.wide {
		p.checks(3, r.Checks)
	}
	for i := range r.Licenses {
		p.license(&r.Licenses[i])
	}
}

func (p *explanationPrinter) license(l *entitlement.LicenseExplanation) {
	p.line(3, "ModelLicense %s (%s)", visible(l.Name), visible(l.Repository))
	p.seats(4, l.Seats)
	p.checks(4, l.Checks)
	for i := range l.Grants {
		p.line(4, "ModelGrant %s", visible(l.Grants[i].Name))
		p.seats(5, l.Grants[i].Seats)
		p.checks(5, l.Grants[i].Checks)
	}
}

// seats are limits, and who uses them.
func (p *explanationPrinter) seats(depth int, s *entitlement.SeatExplanation) {
	if s == nil {
		return
	}
	var parts []string
	if s.InUse != "" {
		parts = append(parts, fmt.Sprintf("%s in use, %d waiting", visible(s.InUse), s.Waiting))
	}
	if len(s.Limits) > 0 {
		var limits []string
		for _, name := range slices.Sorted(maps.Keys(s.Limits)) {
			quantity := s.Limits[name]
			limits = append(limits, fmt.Sprintf("%s %s", visible(string(name)), quantity.String()))
		}
		text := "limits " + strings.Join(limits, ", ")
		switch s.Overage {
		case v1alpha1.OverageDeny:
			text += ", beyond which pods are refused"
		case v1alpha1.OverageQueue:
			text += ", beyond which pods wait"
		}
		parts = append(parts, text)
	}
	p.line(depth, "Seats: %s", strings.Join(parts, "; "))
}

// checks are a table: what was asked, and how it came out.
func (p *explanationPrinter) checks(depth int, checks []entitlement.Check) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, c := range checks {
		text := checkTexts[c.Name]
		outcome := string(c.Outcome)
		if c.Reason != "" {
			outcome += " [" + string(c.Reason) + "]"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, text, outcome)
	}
	if err := w.Flush(); err != nil {
		return // A strings.Builder takes everything.
	}
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i, c := range checks {
		p.line(depth, "%s", p.tint(strings.TrimRight(lines[i], " "), outcomeColours[c.Outcome]))
		if p.wide && c.Outcome == entitlement.Failed {
			p.finding(depth+1, "", c.Message, c.Remedy, c.Fixer)
		}
	}
}

// finding says what is wrong, what to do, and who can.
func (p *explanationPrinter) finding(depth int, reason, message, remedy string, fixer entitlement.Fixer) {
	if reason != "" {
		p.line(depth, "Reason:   %s: %s", reason, visible(message))
	} else {
		p.line(depth, "Reason:   %s", visible(message))
	}
	if remedy != "" {
		p.line(depth, "Remedy:   %s", visible(remedy))
	}
	if fixer != "" {
		p.line(depth, "Who can:  %s", visible(string(fixer)))
	}
}

func (p *explanationPrinter) admission(a *Admission) {
	p.line(0, "")
	if a.Condition == nil {
		p.line(1, "Logged:       nothing: the pod has no condition modelrights.dev/Licensed")
	} else {
		p.line(1, "Logged:       %s since %s: %s (Licensed=%s)", visible(a.Condition.Reason), a.Condition.Since.UTC().Format("2006-01-02T15:04:05Z"), visible(a.Condition.Message), a.Condition.Status)
	}
	if a.Copy != nil {
		p.line(1, "Copy:         %s since %s: %s (Copy=%s)", visible(a.Copy.Reason), a.Copy.Since.UTC().Format("2006-01-02T15:04:05Z"), visible(a.Copy.Message), a.Copy.Status)
	}
	if len(a.KeyVolumes) == 0 {
		p.line(1, "Key volumes:  none")
	}
	for _, v := range a.KeyVolumes {
		p.line(1, "Key volume:   %s, of licence %s, mounted by %s", visible(v.Name), visible(v.License), visible(firstOf(strings.Join(v.Containers, ", "), "no container")))
	}
	for _, e := range a.Events {
		times := ""
		if e.Count > 1 {
			times = fmt.Sprintf(" (%d times)", e.Count)
		}
		p.line(1, "Event:        %s %s %s%s: %s", e.Time.UTC().Format("2006-01-02T15:04:05Z"), visible(e.Type), visible(e.Reason), times, visible(e.Message))
	}
}

func (p *explanationPrinter) line(depth int, format string, args ...any) {
	fmt.Fprintln(p.w, strings.TrimRight(strings.Repeat("  ", depth)+fmt.Sprintf(format, args...), " "))
}

// Colours of terminals, as ECMA-48 has them.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	faint  = "2"
	strong = "1"
)

var verdictColours = map[Verdict]string{Refused: red, Unknown: yellow, Unresolved: yellow, Entitled: green}

var outcomeColours = map[entitlement.Outcome]string{
	entitlement.Passed: green, entitlement.Failed: red, entitlement.NotReached: faint,
}

func (p *explanationPrinter) paint(v Verdict) string { return p.tint(string(v), verdictColours[v]) }

func (p *explanationPrinter) bold(s string) string { return p.tint(s, strong) }

func (p *explanationPrinter) tint(s, colour string) string {
	if !p.colour || colour == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}
