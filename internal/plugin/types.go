package plugin

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// APIVersion is the version of what the commands print as JSON and YAML. Fields are added to it, and neither renamed nor
// removed. No API server knows these kinds.
const APIVersion = "cli.modelrights.dev/v1alpha1"

// ImageReferenceList is what kubectl modelrights images prints.
type ImageReferenceList struct {
	metav1.TypeMeta `json:",inline"`
	// Items are the references in the order in which they stand in the manifests.
	Items []ImageReference `json:"items"`
	// Errors are the documents and files that could not be read.
	Errors []ReadError `json:"errors,omitempty"`
}

// ImageReference is one place in a manifest that names an image.
type ImageReference struct {
	// Reference is the reference as it stands there.
	Reference string `json:"reference"`
	// Normalized is the reference in normal form; empty where it cannot be told.
	Normalized string `json:"normalized,omitempty"`
	// Confidence is declared for a field that holds an image, inferred for a string that looks like it, and unresolved
	// where what is named is not known before the manifest is rendered or run.
	Confidence string `json:"confidence"`
	// Path is the path of the field in the object.
	Path string `json:"path"`
	// Object is the object that names it.
	Object ObjectReference `json:"object"`
	// Origin says where the object was read.
	Origin `json:",inline"`
}

// ObjectReference names an object of a manifest or of the cluster.
type ObjectReference struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name,omitempty"`
}

// Origin says where something was read; it is empty for what was read from the cluster.
type Origin struct {
	// File is the file, the URL or the directory; STDIN for standard input.
	File string `json:"file,omitempty"`
	// Document counts the documents of the file, from 1.
	Document int `json:"document,omitempty"`
	// Line is the document's first line in the file, from 1.
	Line int `json:"line,omitempty"`
	// ListItem is the path of the item, where the document is a List.
	ListItem string `json:"listItem,omitempty"`
}

// ReadError is something that could not be read.
type ReadError struct {
	Origin `json:",inline"`
	// Message says why.
	Message string `json:"message"`
}
