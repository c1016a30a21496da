package controllers

import (
	"errors"
	"fmt"
	"strings"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/registry"
)

// maxImageProblems bounds the problems that the condition ImagesResolved tells in full.
const maxImageProblems = 3

// imagesStatus is the status of a licence after a resolution of its sources.
func imagesStatus(license *v1alpha1.ModelLicense, sources []imageSource, r *resolution) v1alpha1.ModelLicenseStatus {
	status := *license.Status.DeepCopy()
	status.Images = r.entries()
	reason, message := imagesVerdict(sources, r)
	ok := reason == v1alpha1.ReasonImagesResolved || reason == v1alpha1.ReasonNothingToResolve
	setCondition(&status.Conditions, license.Generation, v1alpha1.ConditionImagesResolved, ok, reason, message)
	return status
}

// pullSecretStatus is the status of a licence whose pull Secret cannot be used: nothing is asked, what was resolved stays.
func pullSecretStatus(license *v1alpha1.ModelLicense, problem string) v1alpha1.ModelLicenseStatus {
	status := *license.Status.DeepCopy()
	setCondition(&status.Conditions, license.Generation, v1alpha1.ConditionImagesResolved, false, v1alpha1.ReasonPullSecretInvalid, problem)
	return status
}

func imagesVerdict(sources []imageSource, r *resolution) (v1alpha1.Reason, string) {
	if len(sources) == 0 {
		return v1alpha1.ReasonNothingToResolve, "spec.images names repositories by patterns alone, whose tags cannot be listed"
	}
	if len(r.failed) == 0 {
		return v1alpha1.ReasonImagesResolved, resolvedMessage(r)
	}
	messages := make([]string, 0, maxImageProblems+1)
	for _, err := range r.failed[:min(len(r.failed), maxImageProblems)] {
		messages = append(messages, err.Error())
	}
	if more := len(r.failed) - maxImageProblems; more > 0 {
		messages = append(messages, fmt.Sprintf("and %d more", more))
	}
	return imagesReason(r.failed[0]), strings.Join(messages, "; ") + ". What was resolved before stays known; it is tried again"
}

func imagesReason(err error) v1alpha1.Reason {
	switch {
	case errors.Is(err, registry.ErrDenied):
		return v1alpha1.ReasonRegistryDenied
	case errors.Is(err, registry.ErrNotFound):
		return v1alpha1.ReasonImageNotFound
	}
	return v1alpha1.ReasonRegistryUnreachable
}

func resolvedMessage(r *resolution) string {
	tags := 0
	repositories := map[string]bool{}
	for key := range r.images {
		repositories[key.repository] = true
		if key.tag != "" {
			tags++
		}
	}
	message := fmt.Sprintf("%d tags and %d listed digests resolved, of %d repositories", tags, len(r.images)-tags, len(repositories))
	switch {
	case r.cut > 0:
		message += fmt.Sprintf("; %d more are not, since status.images holds %d: of each repository the highest versions are kept", r.cut, maxResolvedImages)
	case r.more:
		message += "; of a repository with very many tags not all were read"
	}
	return message
}
