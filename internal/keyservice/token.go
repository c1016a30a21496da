package keyservice

import (
	"context"
	"errors"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What a bound service account token says of the pod it was issued for (KEP-2799, KEP-4193; nodes since Kubernetes 1.32).
const (
	extraPodName  = "authentication.kubernetes.io/pod-name"
	extraPodUID   = "authentication.kubernetes.io/pod-uid"
	extraNodeName = "authentication.kubernetes.io/node-name"
)

// errNotConfirmed means that the API server does not confirm a token for an audience. Why is not said: it would tell
// whoever guesses tokens how close they came.
var errNotConfirmed = errors.New("the API server does not confirm the token")

// holder is who a confirmed token was issued for.
type holder struct {
	// username is the account in full, namespace and account its parts; these are empty for whoever is no service
	// account.
	username           string
	namespace, account string
	// podName, podUID and node are what the token is bound to; empty where it is bound to something else or nothing.
	podName, podUID, node string
}

// bound says whether the token is bound to a pod and a node.
func (h holder) bound() bool { return h.podName != "" && h.podUID != "" && h.node != "" }

// review has the API server confirm a token for one audience, by a TokenReview. For a token that is bound to a pod the API
// server also looks whether that pod, by UID, still exists: a deleted pod's token is refused at the latest a minute
// after the end of its grace period (and 10 s of the API server's own cache), so a driver that is gone gets no key.
// The error is errNotConfirmed or the failure of the call.
func review(ctx context.Context, tokens client.Writer, token, audience string) (holder, error) {
	if token == "" {
		return holder{}, errNotConfirmed
	}
	tr := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{audience}}}
	if err := tokens.Create(ctx, tr); err != nil {
		return holder{}, err
	}
	// An authenticator that knows no audiences leaves the list empty; its word is no proof that the token is for us.
	if !tr.Status.Authenticated || !slices.Contains(tr.Status.Audiences, audience) {
		return holder{}, errNotConfirmed
	}
	return holderOf(tr.Status.User), nil
}

func holderOf(u authenticationv1.UserInfo) holder {
	h := holder{
		username: u.Username,
		podName:  single(u.Extra[extraPodName]),
		podUID:   single(u.Extra[extraPodUID]),
		node:     single(u.Extra[extraNodeName]),
	}
	if rest, ok := strings.CutPrefix(u.Username, "system:serviceaccount:"); ok {
		if namespace, account, ok := strings.Cut(rest, ":"); ok && !strings.Contains(account, ":") {
			h.namespace, h.account = namespace, account
		}
	}
	return h
}

// single is the value of an attribute that must have exactly one.
func single(values authenticationv1.ExtraValue) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}
