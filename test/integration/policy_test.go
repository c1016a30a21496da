package integration

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// The users of these specs. ada may write grants of acme, bob of nothing; both may edit ModelGrants in ml-prod.
const (
	ada = "ada@example.com"
	bob = "bob@example.com"
)

// beRefusedByPolicy matches a refusal of a policy of ours, which says so and holds the given text.
func beRefusedByPolicy(text string) types.GomegaMatcher {
	return And(
		HaveOccurred(),
		WithTransform(apierrors.IsForbidden, BeTrueBecause("it is a refusal with status 403")),
		MatchError(ContainSubstring("ValidatingAdmissionPolicy")),
		MatchError(ContainSubstring(text)),
	)
}

func grantFor(license, name string) *v1alpha1.ModelGrant {
	return &v1alpha1.ModelGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ml-prod", Name: name},
		Spec: v1alpha1.ModelGrantSpec{
			LicenseName: license,
			Subjects:    []v1alpha1.GrantSubject{{Name: "llm-server"}},
			Action:      v1alpha1.ActionInference,
			Purpose:     v1alpha1.PurposeInternal,
		},
	}
}

func auditRecord(index int64) *v1alpha1.ModelAuditRecord {
	return &v1alpha1.ModelAuditRecord{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%020d", index)},
		Spec:       v1alpha1.ModelAuditRecordSpec{FirstIndex: index, Summary: "a test", Entries: []string{"{}"}},
	}
}

// bindRole gives the user a ClusterRole, in a namespace or, with none, everywhere.
func bindRole(ctx context.Context, c client.Client, namespace, role, user string) {
	GinkgoHelper()
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}}
	named := metav1.ObjectMeta{GenerateName: "test-", Namespace: namespace}
	if namespace == "" {
		Expect(c.Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: named, RoleRef: ref, Subjects: subjects})).To(Succeed())
		return
	}
	Expect(c.Create(ctx, &rbacv1.RoleBinding{ObjectMeta: named, RoleRef: ref, Subjects: subjects})).To(Succeed())
}

var _ = Describe("Policies", Ordered, ContinueOnFailure, func() {
	var (
		config          *rest.Config
		admin, operator client.Client
	)

	BeforeAll(func(ctx SpecContext) {
		env := &envtest.Environment{}
		config = startEnvironment(env)
		DeferCleanup(env.Stop)
		admin = clientOf(config)
		operator = actingAs(config, operatorUser, "system:serviceaccounts")
		Expect(admin.Create(ctx, builders.Namespace(operatorNamespace).Obj())).To(Succeed())
		Expect(admin.Create(ctx, builders.Namespace(nodeNamespace).Obj())).To(Succeed())
		Expect(admin.Create(ctx, builders.Namespace("ml-prod").Obj())).To(Succeed())
		applyConfig(ctx, admin, "rbac")
		applyConfig(ctx, admin, "policy")

		Expect(admin.Create(ctx, &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: "grant-acme"},
			Rules: []rbacv1.PolicyRule{{
				APIGroups: []string{"modelrights.dev"}, Resources: []string{"modellicenses"},
				ResourceNames: []string{"acme"}, Verbs: []string{v1alpha1.GrantVerb},
			}},
		})).To(Succeed())
		bindRole(ctx, admin, "", "grant-acme", ada)
		for _, user := range []string{ada, bob} {
			bindRole(ctx, admin, "ml-prod", "modelrights-grant-editor", user)
		}

		// A policy takes effect a moment after it was created, each on its own.
		Eventually(func() error { return actingAs(config, bob).Create(ctx, grantFor("acme", "probe"), client.DryRunAll) }).
			Should(beRefusedByPolicy("verb grant"))
		Eventually(func() error { return admin.Create(ctx, auditRecord(0), client.DryRunAll) }).Should(beRefusedByPolicy("the operator alone"))
		head := &v1alpha1.ModelAuditLog{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AuditLogName}}
		Eventually(func() error { return admin.Create(ctx, head.DeepCopy(), client.DryRunAll) }).Should(beRefusedByPolicy("the operator alone"))
		Eventually(func() error { return actingAs(config, ada).Create(ctx, grantFor("acme", "probe"), client.DryRunAll) }).Should(Succeed())
		Eventually(func() error { return operator.Create(ctx, auditRecord(0), client.DryRunAll) }).Should(Succeed())
	})

	Context("of grants", func() {
		It("let those write grants who hold the verb on the licence", func(ctx SpecContext) {
			Expect(actingAs(config, ada).Create(ctx, grantFor("acme", "chat"))).To(Succeed())
		})

		It("refuse others, and say which verb is missing and how to get it", func(ctx SpecContext) {
			err := actingAs(config, bob).Create(ctx, grantFor("acme", "mine"))
			Expect(err).To(beRefusedByPolicy("bob@example.com may not write grants of the licence acme"))
			Expect(err).To(MatchError(ContainSubstring("verb grant on modellicenses/acme")))
			Expect(err).To(MatchError(ContainSubstring("kubectl create clusterrole grant-acme --verb=grant --resource=modellicenses.modelrights.dev --resource-name=acme")))
			Expect(err).To(MatchError(ContainSubstring("kubectl create clusterrolebinding grant-acme --clusterrole=grant-acme --user=bob@example.com")))
		})

		It("name a service account as kubectl wants it", func(ctx SpecContext) {
			bindRole(ctx, admin, "ml-prod", "modelrights-grant-editor", "system:serviceaccount:gitops:deployer")
			Eventually(func() error {
				return actingAs(config, "system:serviceaccount:gitops:deployer").Create(ctx, grantFor("acme", "mine"))
			}).Should(beRefusedByPolicy("--serviceaccount=gitops:deployer"))
		})

		It("put no user's name into the command that a shell would take apart", func(ctx SpecContext) {
			bindRole(ctx, admin, "ml-prod", "modelrights-grant-editor", "eve; rm -rf ~")
			Eventually(func() error { return actingAs(config, "eve; rm -rf ~").Create(ctx, grantFor("acme", "mine")) }).
				Should(And(beRefusedByPolicy("--user=USER"), MatchError(Not(ContainSubstring("--user=eve")))))
		})

		It("refuse a server-side apply as they refuse a create", func(ctx SpecContext) {
			fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(grantFor("acme", "applied"))
			Expect(err).NotTo(HaveOccurred())
			grant := &unstructured.Unstructured{Object: fields}
			grant.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ModelGrant"))
			unstructured.RemoveNestedField(grant.Object, "metadata", "creationTimestamp")
			unstructured.RemoveNestedField(grant.Object, "status")
			Expect(actingAs(config, bob).Apply(ctx, client.ApplyConfigurationFromUnstructured(grant), client.FieldOwner("bob"))).
				To(beRefusedByPolicy("verb grant"))
		})

		It("ask for the verb on the very licence", func(ctx SpecContext) {
			Expect(actingAs(config, ada).Create(ctx, grantFor("other", "other"))).To(beRefusedByPolicy("modellicenses/other"))
		})

		It("count no verb that was given in a namespace, where licences are not", func(ctx SpecContext) {
			bindRole(ctx, admin, "ml-prod", "grant-acme", bob)
			Consistently(func() error { return actingAs(config, bob).Create(ctx, grantFor("acme", "mine"), client.DryRunAll) }, "2s").
				Should(beRefusedByPolicy("cluster-wide"))
		})

		It("refuse to widen a grant that another wrote", func(ctx SpecContext) {
			grant := grantFor("acme", "chat")
			patch := client.RawPatch("application/json-patch+json",
				[]byte(`[{"op": "add", "path": "/spec/subjects/-", "value": {"kind": "ServiceAccount", "name": "bobs-server"}}]`))
			Expect(actingAs(config, bob).Patch(ctx, grant, patch)).To(beRefusedByPolicy("verb grant"))
		})

		It("refuse to move a grant to a licence that its writer holds no verb on", func(ctx SpecContext) {
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec": {"licenseName": "other"}}`))
			Expect(actingAs(config, ada).Patch(ctx, grantFor("acme", "chat"), patch)).To(beRefusedByPolicy("modellicenses/other"))
		})

		It("let anybody who may edit grants change metadata", func(ctx SpecContext) {
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata": {"labels": {"team": "chat"}}}`))
			Expect(actingAs(config, bob).Patch(ctx, grantFor("acme", "chat"), patch)).To(Succeed())
		})

		It("let a grant's spec be written again as it is", func(ctx SpecContext) {
			grant := &v1alpha1.ModelGrant{}
			Expect(actingAs(config, bob).Get(ctx, client.ObjectKeyFromObject(grantFor("acme", "chat")), grant)).To(Succeed())
			grant.Annotations = map[string]string{"note": "written by a PUT"}
			Expect(actingAs(config, bob).Update(ctx, grant)).To(Succeed())
		})

		It("let the operator write status without the verb", func(ctx SpecContext) {
			grant := &v1alpha1.ModelGrant{}
			Expect(operator.Get(ctx, client.ObjectKeyFromObject(grantFor("acme", "chat")), grant)).To(Succeed())
			meta.SetStatusCondition(&grant.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready"})
			Expect(operator.Status().Update(ctx, grant)).To(Succeed())
		})

		It("let anybody who may edit grants delete one, which takes rights away and gives none", func(ctx SpecContext) {
			Expect(actingAs(config, bob).Delete(ctx, grantFor("acme", "chat"))).To(Succeed())
		})
	})

	Context("of audit records", func() {
		It("let the operator write one", func(ctx SpecContext) {
			Expect(operator.Create(ctx, auditRecord(0))).To(Succeed())
		})

		It("refuse a record that a cluster admin forges", func(ctx SpecContext) {
			Expect(admin.Create(ctx, auditRecord(1))).To(beRefusedByPolicy("audit records are written by the operator alone"))
		})

		It("refuse the operator's namesake in another namespace", func(ctx SpecContext) {
			impostor := "system:serviceaccount:ml-prod:modelrights-operator"
			bindRole(ctx, admin, "", "modelrights-operator", impostor)
			Eventually(func() error { return actingAs(config, impostor).Create(ctx, auditRecord(1)) }).Should(beRefusedByPolicy("the operator alone"))
		})

		It("refuse every change, even of metadata, even by a cluster admin", func(ctx SpecContext) {
			for _, change := range []string{
				`{"metadata": {"labels": {"reviewed": "yes"}}}`,
				`{"metadata": {"annotations": {"reviewed": "yes"}}}`,
				`{"metadata": {"finalizers": ["example.com/kept"]}}`,
				`{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "ml-prod", "uid": "8b8ab4c2-4d2f-4d0e-9a3e-3a5b3b7f0a6c"}]}}`,
				`{"metadata": {"generateName": "forged-"}}`,
			} {
				patch := client.RawPatch("application/merge-patch+json", []byte(change))
				Expect(admin.Patch(ctx, auditRecord(0), patch)).To(beRefusedByPolicy("neither changed nor deleted"), change)
			}
			for _, change := range []string{`{"spec": {"summary": "forged"}}`, `{"spec": {"entries": ["{\"forged\":true}"]}}`} {
				patch := client.RawPatch("application/merge-patch+json", []byte(change))
				Expect(admin.Patch(ctx, auditRecord(0), patch)).To(MatchError(ContainSubstring("an audit record cannot be changed")), change)
			}
		})

		It("let a record be written again as it is, as migrations of the storage version do", func(ctx SpecContext) {
			stored := &v1alpha1.ModelAuditRecord{}
			Expect(admin.Get(ctx, client.ObjectKeyFromObject(auditRecord(0)), stored)).To(Succeed())
			Expect(admin.Update(ctx, stored.DeepCopy())).To(Succeed(), "by a PUT, as migrators outside the cluster do")

			// As the storage version migration controller does.
			nothing := &unstructured.Unstructured{}
			nothing.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ModelAuditRecord"))
			nothing.SetName(stored.Name)
			nothing.SetUID(stored.UID)
			nothing.SetResourceVersion(stored.ResourceVersion)
			Expect(admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(nothing), client.FieldOwner("storage-version-migration-controller"))).To(Succeed())

			after := &v1alpha1.ModelAuditRecord{}
			Expect(admin.Get(ctx, client.ObjectKeyFromObject(stored), after)).To(Succeed())
			Expect(after.Spec).To(Equal(stored.Spec))
			Expect(after.Labels).To(Equal(stored.Labels))
		})

		It("refuse deletion, one by one and all at once, even by a cluster admin", func(ctx SpecContext) {
			Expect(admin.Delete(ctx, auditRecord(0))).To(beRefusedByPolicy("neither changed nor deleted"))
			Expect(admin.DeleteAllOf(ctx, &v1alpha1.ModelAuditRecord{})).To(beRefusedByPolicy("neither changed nor deleted"))
			Expect(admin.Get(ctx, client.ObjectKeyFromObject(auditRecord(0)), &v1alpha1.ModelAuditRecord{})).To(Succeed())
		})

		It("refuse the operator itself a change", func(ctx SpecContext) {
			// RBAC gives it no verb for it; the policy would refuse it too.
			bindRole(ctx, admin, "", "cluster-admin", operatorUser)
			Eventually(func() error { return operator.Delete(ctx, auditRecord(0)) }).Should(beRefusedByPolicy("neither changed nor deleted"))
		})
	})

	Context("of the audit log's head", func() {
		head := func() *v1alpha1.ModelAuditLog {
			return &v1alpha1.ModelAuditLog{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AuditLogName}}
		}
		shrink := client.RawPatch("application/merge-patch+json", []byte(`{"status": {"size": 0}}`))

		It("let the operator write it and its status", func(ctx SpecContext) {
			Expect(operator.Create(ctx, head())).To(Succeed())
			Expect(operator.Status().Patch(ctx, head(), shrink)).To(Succeed())
		})

		It("refuse anybody else", func(ctx SpecContext) {
			Expect(admin.Status().Patch(ctx, head(), shrink)).To(beRefusedByPolicy("the operator alone"))
			Expect(admin.Patch(ctx, head(), client.RawPatch("application/merge-patch+json", []byte(`{"metadata": {"labels": {"a": "b"}}}`)))).
				To(beRefusedByPolicy("the operator alone"))
			Expect(admin.Delete(ctx, head())).To(beRefusedByPolicy("the operator alone"))
		})

		It("let others ask by the annotation for the time mark to be reset, and for nothing else", func(ctx SpecContext) {
			annotate := func(annotations string) client.Patch {
				return client.RawPatch("application/merge-patch+json", []byte(`{"metadata": {"annotations": `+annotations+`}}`))
			}
			Expect(admin.Patch(ctx, head(), annotate(`{"modelrights.dev/reset-time-mark": "the clock ran ahead"}`))).To(Succeed())
			Expect(admin.Patch(ctx, head(), annotate(`{"a": "b"}`))).To(beRefusedByPolicy("the operator alone"))
			Expect(admin.Patch(ctx, head(), annotate(`{"modelrights.dev/reset-time-mark": "again", "a": "b"}`))).To(beRefusedByPolicy("the operator alone"))
			Expect(operator.Patch(ctx, head(), annotate(`{"modelrights.dev/reset-time-mark": null, "a": "b"}`))).To(Succeed(), "the operator")
			Expect(admin.Patch(ctx, head(), annotate(`{"a": null}`))).To(beRefusedByPolicy("the operator alone"))
		})
	})

	It("do not stop the removal of the whole kind, as the threat model says", func(ctx SpecContext) {
		definition := &unstructured.Unstructured{}
		definition.SetAPIVersion("apiextensions.k8s.io/v1")
		definition.SetKind("CustomResourceDefinition")
		definition.SetName("modelauditrecords.modelrights.dev")
		Expect(admin.Delete(ctx, definition)).To(Succeed())
		Eventually(func() error { return admin.Get(ctx, client.ObjectKeyFromObject(definition), definition) }).
			Should(WithTransform(apierrors.IsNotFound, BeTrueBecause("the definition and every record are gone")))
	})
})
