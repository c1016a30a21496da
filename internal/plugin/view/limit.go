package view

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Limit is something that the user may not see, and what to do about it.
type Limit struct {
	// Verb and Resource, as RBAC names them, are what is missing.
	Verb     string `json:"verb"`
	Resource string `json:"resource"`
	// Namespace is where; empty for the whole cluster. Name is the object; empty for all.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Message says it in words, and Remedy whom to ask for what.
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
}

// Miss notes that something beside the decision could not be read.
func (v *View) Miss(err error, verb, resource, namespace string) {
	if apierrors.IsForbidden(err) {
		v.Limits = append(v.Limits, forbidden(err, verb, resource, namespace, ""))
		return
	}
	v.Limits = append(v.Limits, Limit{Verb: verb, Resource: resource, Namespace: namespace, Message: err.Error(), Remedy: "try again"})
}

// forbidden turns the API server's refusal into a limit.
func forbidden(err error, verb, resource, namespace, name string) Limit {
	who := userOf(err)
	limit := Limit{Verb: verb, Resource: resource, Namespace: namespace, Name: name, Remedy: ask(who, namespace)}
	where := "in the whole cluster"
	if namespace != "" {
		where = "in namespace " + namespace
	}
	what := resource
	if name != "" && name != namespace {
		what += "/" + name
	}
	limit.Message = fmt.Sprintf("%s may not %s %s %s", who.name(), verb, what, where)
	return limit
}

// ask says whom to ask for a role that allows reading in a namespace, or in the whole cluster.
func ask(who user, namespace string) string {
	if namespace == "" {
		return fmt.Sprintf("ask a cluster admin for: kubectl create clusterrolebinding modelrights-viewer-%s --clusterrole=modelrights-viewer %s", who.short(), who.flag())
	}
	return fmt.Sprintf("ask an admin of namespace %s for: kubectl -n %s create rolebinding view-%s --clusterrole=view %s", namespace, namespace, who.short(), who.flag())
}

var namespaceInMessage = regexp.MustCompile(`in the namespace "([^"]+)"`)

// WhomToAsk adds to the API server's refusal to show something in a namespace, which names verb and resource, who can
// change that. Other errors stay as they are.
func WhomToAsk(err error) error {
	if !apierrors.IsForbidden(err) {
		return err
	}
	match := namespaceInMessage.FindStringSubmatch(err.Error())
	if match == nil {
		return fmt.Errorf("%w; ask a cluster admin for a role that allows it", err)
	}
	return fmt.Errorf("%w; %s", err, ask(userOf(err), match[1]))
}

// user is whom the API server refused; empty where it does not say.
type user string

var userInMessage = regexp.MustCompile(`User "([^"]+)" cannot`)

func userOf(err error) user {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		if match := userInMessage.FindStringSubmatch(status.Status().Message); match != nil {
			return user(match[1])
		}
	}
	return ""
}

func (u user) name() string {
	if u == "" {
		return "you"
	}
	return fmt.Sprintf("%q", string(u))
}

// short is a part of an object's name.
func (u user) short() string {
	name := strings.ToLower(string(u)[strings.LastIndexByte(string(u), ':')+1:])
	name = strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(name, "-"), "-")
	if name == "" {
		return "me"
	}
	return name[:min(len(name), 40)]
}

// flag is how kubectl create names the user as a subject.
func (u user) flag() string {
	if account, ok := strings.CutPrefix(string(u), "system:serviceaccount:"); ok {
		return "--serviceaccount=" + account
	}
	if u == "" {
		return "--user=YOU"
	}
	if strings.Trim(strings.ToLower(string(u)), "abcdefghijklmnopqrstuvwxyz0123456789.-_@:") != "" {
		return "--user='" + strings.ReplaceAll(string(u), "'", `'\''`) + "'"
	}
	return "--user=" + string(u)
}
