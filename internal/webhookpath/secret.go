// Package webhookpath keeps the path under which the operator answers the API server's admission reviews. It holds a
// part that nobody can guess: the API server presents no certificate to webhooks unless the whole cluster is set up for
// it, and any pod reaches the webhooks' port, so the path is what tells the API server from others.
package webhookpath

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// SecretName is the Secret in the operator's namespace that holds the secret part, which all replicas share.
	SecretName = "modelrights-webhook-path"

	// entry is the Secret's entry.
	entry = "path"

	// randomBytes is the length of the secret part before it is written in hexadecimal.
	randomBytes = 32
)

var wellFormed = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Ensure returns the secret part, which it makes if there is none. The error names the Secret and, where its content is
// not what Ensure makes, the remedy.
func Ensure(ctx context.Context, live client.Reader, c client.Writer, namespace string) (string, error) {
	key := client.ObjectKey{Namespace: namespace, Name: SecretName}
	random := make([]byte, randomBytes)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("making a path for the webhooks: %w", err)
	}
	fresh := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Data:       map[string][]byte{entry: []byte(hex.EncodeToString(random))},
	}
	if err := c.Create(ctx, fresh); err == nil {
		return string(fresh.Data[entry]), nil
	} else if !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("creating Secret %s for the path of the webhooks: %w", key, err)
	}
	var known corev1.Secret
	if err := live.Get(ctx, key, &known); err != nil {
		return "", fmt.Errorf("reading Secret %s with the path of the webhooks: %w", key, err)
	}
	if !wellFormed.Match(known.Data[entry]) {
		return "", fmt.Errorf("the Secret %s does not hold the path of the webhooks in its entry %q: delete it, and the operator makes another", key, entry)
	}
	return string(known.Data[entry]), nil
}
