package controllers

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// maxNodeNames bounds the names of nodes in a status, as its schema does.
const maxNodeNames = 100

// distribute says of each licence, in their order, on which nodes its images lie: those that the node names by one of
// the licence's repositories, and those that have a digest which belongs to the licence, whatever their name. Its cost
// is that of the different names on all nodes, not of licences times nodes.
func distribute(licenses []v1alpha1.ModelLicense, nodes []corev1.Node) []v1alpha1.ImageDistribution {
	owners := ownersOf(licenses)
	holders := make([][]string, len(licenses))
	lastHolder := make([]int, len(licenses)) // one more than the index of the last node found to hold it
	ownersOfName := map[string][]int{}
	for n := range nodes {
		for _, image := range nodes[n].Status.Images {
			for _, name := range image.Names {
				indexes, known := ownersOfName[name]
				if !known {
					indexes = owners.of(name)
					ownersOfName[name] = indexes
				}
				for _, i := range indexes {
					if lastHolder[i] != n+1 {
						lastHolder[i] = n + 1
						holders[i] = append(holders[i], nodes[n].Name)
					}
				}
			}
		}
	}
	found := make([]v1alpha1.ImageDistribution, len(licenses))
	for i, names := range holders {
		slices.Sort(names)
		found[i] = v1alpha1.ImageDistribution{Nodes: int32(len(names)), NodeNames: names[:min(len(names), maxNodeNames)]}
	}
	return found
}

// imageOwners finds licences, by their place in a list, for the names of images.
type imageOwners struct {
	repositories images.Index[int]
	digests      map[string][]int
}

func ownersOf(licenses []v1alpha1.ModelLicense) imageOwners {
	owners := imageOwners{digests: map[string][]int{}}
	owners.repositories = images.NewIndex(func(add func(images.Pattern, int)) {
		for i := range licenses {
			for _, image := range licenses[i].Spec.Images {
				for _, repository := range append([]string{image.Repository}, image.Mirrors...) {
					if pattern, err := images.ParsePattern(repository); err == nil {
						add(pattern, i)
					}
				}
				for _, digest := range image.Digests {
					owners.digests[digest] = append(owners.digests[digest], i)
				}
			}
			for _, known := range licenses[i].Status.Images {
				for _, digest := range append([]string{known.Digest}, known.Platforms...) {
					owners.digests[digest] = append(owners.digests[digest], i)
				}
			}
		}
	})
	return owners
}

// of lists the licences that an image of that name belongs to. Names that cannot be parsed belong to none.
func (o *imageOwners) of(name string) []int {
	ref, err := images.Parse(name)
	if err != nil {
		return nil
	}
	found := o.repositories.Lookup(ref.Repository, nil)
	if ref.Digest != "" {
		found = append(found, o.digests[ref.Digest]...)
	}
	slices.Sort(found)
	return slices.Compact(found)
}
