//go:build e2e

package e2e

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

var _ = Describe("A tenant who turns to the key service himself", func() {
	It("gets nothing, with tokens of any audience and the name of an entitled pod", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		victim := ready(ctx, create(ctx, t.probe("victim")))
		released := len(entries(ctx, of(audit.KeyReleased, t.namespace)))

		// The attacker runs as the entitled account, in the same namespace, but without the model.
		attacker := t.pod("attacker", installed.probe, "-key-service=https://modelrights-keyservice."+operatorNamespace+".svc:443")
		attacker.Spec.Volumes = []corev1.Volume{{Name: "tokens", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{token("pod", protocol.AudiencePod), token("driver", protocol.AudienceDriver), token("api", "")},
		}}}}
		attacker.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "tokens", MountPath: "/tokens"}}
		ready(ctx, create(ctx, attacker))

		for _, whose := range []*corev1.Pod{victim, attacker} {
			var outcomes map[string]struct {
				Status, Files int
				Reason, Error string
			}
			Expect(ask(ctx, attacker, "8080", "/attack", map[string]string{
				"license": t.license, "namespace": t.namespace, "pod": whose.Name, "uid": string(whose.UID),
			}, &outcomes)).To(Succeed())
			Expect(outcomes).To(HaveLen(8))
			for attack, outcome := range outcomes {
				Expect(outcome.Error).To(BeEmpty(), "%s: the service must be reached for this to prove anything", attack)
				Expect(outcome.Status).To(BeElementOf(401, 403), "%s: %+v", attack, outcome)
				Expect(outcome.Files).To(BeZero(), attack)
				Expect(outcome.Reason).To(BeElementOf("Unauthenticated", "NotNodeDriver", "TokenNotBound"), attack)
			}
		}
		Expect(entries(ctx, of(audit.KeyReleased, t.namespace))).To(HaveLen(released))
	})
})

func token(path, audience string) corev1.VolumeProjection {
	return corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: path, Audience: audience}}
}
