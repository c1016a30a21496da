package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: "modelrights.dev", Version: "v1alpha1"}

// SchemeBuilder collects the functions that register this package's kinds.
var SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

// AddToScheme registers this package's kinds in a scheme, so that clients can read and write them.
var AddToScheme = SchemeBuilder.AddToScheme

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&ModelLicense{}, &ModelLicenseList{},
		&ModelGrant{}, &ModelGrantList{},
		&ModelSeats{}, &ModelSeatsList{},
		&ModelAuditRecord{}, &ModelAuditRecordList{},
		&ModelAuditLog{}, &ModelAuditLogList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
