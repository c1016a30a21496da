package integration

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// inForce waits until the API server sends pods that use the repository to the operator.
func (a *admission) inForce(ctx context.Context, repository string) {
	GinkgoHelper()
	image := strings.NewReplacer("**", "x", "*", "x").Replace(repository)
	Eventually(func() []review {
		before := len(a.reviews.taken())
		_ = a.client.Create(ctx, builders.Pod("default", "in-force").Container("main", image).Obj(), client.DryRunAll)
		return a.reviews.taken()[before:]
	}).WithContext(ctx).
		Should(ContainElement(HaveField("Image", image)), "%s is sent to the operator", repository)
}

// write creates objects and waits until the webhooks know them.
func (a *admission) write(ctx context.Context, objects ...client.Object) {
	GinkgoHelper()
	for _, object := range objects {
		Expect(a.client.Create(ctx, object)).To(Succeed())
	}
	a.synced(ctx)
}

// revoke deletes grants and licences and waits until the webhooks know.
func (a *admission) revoke(ctx context.Context, objects ...client.Object) {
	GinkgoHelper()
	for _, object := range objects {
		Expect(client.IgnoreNotFound(a.client.Delete(ctx, object))).To(Succeed())
	}
	a.synced(ctx)
}

// synced waits until memory holds the licences and grants that the API server has.
func (a *admission) synced(ctx context.Context) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		s, _ := a.rights.Store.Snapshot()
		var licenses v1alpha1.ModelLicenseList
		g.Expect(a.client.List(ctx, &licenses)).To(Succeed())
		for _, l := range licenses.Items {
			g.Expect(s.License(l.Name)).NotTo(BeNil())
			g.Expect(s.License(l.Name).UID).To(Equal(l.UID))
		}
		for _, namespace := range []string{"ml-prod", "ml-dev"} {
			var grants v1alpha1.ModelGrantList
			g.Expect(a.client.List(ctx, &grants, client.InNamespace(namespace))).To(Succeed())
			g.Expect(s.GrantsIn(namespace)).To(HaveLen(len(grants.Items)))
		}
	}).Should(Succeed())
	var licenses v1alpha1.ModelLicenseList
	Expect(a.client.List(ctx, &licenses)).To(Succeed())
	for i := range licenses.Items {
		Eventually(func() (bool, error) {
			covered, _, err := a.configurations.Covers(ctx, &licenses.Items[i])
			return covered, err
		}).Should(BeTrue(), "the configurations cover licence %s", licenses.Items[i].Name)
		for _, image := range licenses.Items[i].Spec.Images {
			a.inForce(ctx, image.Repository)
		}
	}
}
