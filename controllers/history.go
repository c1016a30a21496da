package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"unique"

	"github.com/gowebpki/jcs"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

// AuditLog is where the reconcilers write what happened. Append returns when the entry is durable.
type AuditLog interface {
	Append(ctx context.Context, e audit.Entry) (int64, error)
}

// change is what happened to an object's spec.
type change int

const (
	created change = iota
	changed
	deleted
)

// incarnation tells an object from a later one of the same name.
type incarnation struct {
	name       types.NamespacedName
	uid        types.UID
	generation int64
	// license is the licence that a grant names; detail is what the spec said, in words, and its hash, which the grants of
	// a licence to the same service accounts share.
	license string
	detail  unique.Handle[string]
}

// incarnationOf describes an object whose spec says so much in words.
func incarnationOf(o client.Object, spec any, license, words string) (incarnation, error) {
	hash, err := specHash(spec)
	if err != nil {
		return incarnation{}, fmt.Errorf("hashing the spec of %s: %w", client.ObjectKeyFromObject(o), err)
	}
	return incarnation{
		name: client.ObjectKeyFromObject(o), uid: o.GetUID(), generation: o.GetGeneration(),
		license: license, detail: unique.Make(fmt.Sprintf("%s; spec sha256:%s", words, hash)),
	}, nil
}

// specHash is the SHA-256 of a spec's canonical JSON (RFC 8785), by which it can be proved later what was in force.
func specHash(spec any) (string, error) {
	plain, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	canonical, err := jcs.Transform(plain)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(canonical)), nil
}

// history writes the changes of objects of one kind into the audit log. What was logged stands in the object's
// status.observedGeneration, so that a restart repeats at most the entry that was being written; its ID is then the
// same. A deletion is logged by the operator that sees it: one that happens while no operator runs leaves no entry of its
// own. It remembers only what is under way, since there may be a hundred thousand objects; ownObjects tells it of the
// rest.
type history struct {
	mu sync.Mutex
	// logged is what was logged of an object whose status in the cache does not say so yet.
	logged map[types.NamespacedName]loggedSpec
	// gone are the objects whose deletion is yet to be logged, in order.
	gone map[types.NamespacedName][]endedObject
}

// loggedSpec is a state of a spec of which there is an entry.
type loggedSpec struct {
	uid        types.UID
	generation int64
}

// endedObject is the last state of an object, and the generation that its status spoke of.
type endedObject struct {
	incarnation
	observed int64
}

// seen logs what happened to an object since its status was written for the observed generation (0: never), and before it
// the deletion of others of its name.
func (h *history) seen(ctx context.Context, log AuditLog, now incarnation, observed int64, entry func(incarnation, change) audit.Entry) error {
	if err := h.deleted(ctx, log, now.name, entry); err != nil {
		return err
	}
	switch logged := max(observed, h.loggedOf(now.name, now.uid)); {
	case logged == 0:
		if err := appendEntry(ctx, log, entry(now, created)); err != nil {
			return err
		}
	case logged < now.generation:
		if err := appendEntry(ctx, log, entry(now, changed)); err != nil {
			return err
		}
	default:
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.logged == nil {
		h.logged = map[types.NamespacedName]loggedSpec{}
	}
	h.logged[now.name] = loggedSpec{uid: now.uid, generation: now.generation}
	return nil
}

// deleted logs the deletions of objects of a name that have ended.
func (h *history) deleted(ctx context.Context, log AuditLog, name types.NamespacedName, entry func(incarnation, change) audit.Entry) error {
	for {
		last, ok := h.firstGone(name)
		if !ok {
			return nil
		}
		// What was never logged to have been created leaves no trace.
		if max(last.observed, h.loggedOf(name, last.uid)) > 0 {
			if err := appendEntry(ctx, log, entry(last.incarnation, deleted)); err != nil {
				return err
			}
		}
		h.forget(last)
	}
}

// ended takes notice of the last state of an object, whose status spoke of the observed generation. It is logged when the
// object's name is next looked at.
func (h *history) ended(last incarnation, observed int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone == nil {
		h.gone = map[types.NamespacedName][]endedObject{}
	}
	h.gone[last.name] = append(h.gone[last.name], endedObject{last, observed})
}

// caughtUp takes notice of an object's status in the cache.
func (h *history) caughtUp(name types.NamespacedName, uid types.UID, observed int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if logged, ok := h.logged[name]; ok && logged.uid == uid && observed >= logged.generation {
		delete(h.logged, name)
	}
}

// loggedOf is the generation of which something was logged though the status may not say so; 0 where nothing was.
func (h *history) loggedOf(name types.NamespacedName, uid types.UID) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if logged, ok := h.logged[name]; ok && logged.uid == uid {
		return logged.generation
	}
	return 0
}

func (h *history) firstGone(name types.NamespacedName) (endedObject, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if gone := h.gone[name]; len(gone) > 0 {
		return gone[0], true
	}
	return endedObject{}, false
}

// forget ends with the first of the objects that are gone.
func (h *history) forget(first endedObject) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.logged[first.name].uid == first.uid {
		delete(h.logged, first.name)
	}
	if h.gone[first.name] = h.gone[first.name][1:]; len(h.gone[first.name]) == 0 {
		delete(h.gone, first.name)
	}
}

func appendEntry(ctx context.Context, log AuditLog, e audit.Entry) error {
	if _, err := log.Append(ctx, e); err != nil {
		return fmt.Errorf("logging %s: %w", e.Type, err)
	}
	return nil
}

func licenseIncarnation(l *v1alpha1.ModelLicense) (incarnation, error) {
	repositories := make([]string, len(l.Spec.Images))
	for i, image := range l.Spec.Images {
		repositories[i] = image.Repository
	}
	return incarnationOf(l, l.Spec, "", fmt.Sprintf("model %s of %s in %s", strings.TrimSpace(l.Spec.Model.Name+" "+l.Spec.Model.Version),
		l.Spec.Licensor, strings.Join(repositories, ", ")))
}

func grantIncarnation(g *v1alpha1.ModelGrant) (incarnation, error) {
	subjects := make([]string, len(g.Spec.Subjects))
	for i, subject := range g.Spec.Subjects {
		subjects[i] = subject.Name
	}
	return incarnationOf(g, g.Spec, g.Spec.LicenseName, fmt.Sprintf("licence %s for %s, %s, to service accounts %s", g.Spec.LicenseName,
		g.Spec.Action, g.Spec.Purpose, strings.Join(subjects, ", ")))
}

func licenseEntry(i incarnation, c change) audit.Entry {
	return audit.Entry{
		Type:    [...]audit.Type{created: audit.LicenseCreated, changed: audit.LicenseChanged, deleted: audit.LicenseDeleted}[c],
		License: audit.ObjectOf(i.meta()),
		Message: bounded(i.detail.Value()),
	}
}

func grantEntry(i incarnation, c change) audit.Entry {
	return audit.Entry{
		Type:      [...]audit.Type{created: audit.GrantCreated, changed: audit.GrantChanged, deleted: audit.GrantDeleted}[c],
		Namespace: i.name.Namespace,
		Grant:     audit.ObjectOf(i.meta()),
		License:   audit.Object{Name: i.license},
		Message:   bounded(i.detail.Value()),
	}
}

func (i incarnation) meta() *metav1.ObjectMeta {
	return &metav1.ObjectMeta{Namespace: i.name.Namespace, Name: i.name.Name, UID: i.uid, Generation: i.generation}
}
