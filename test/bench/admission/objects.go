package main

import (
	"fmt"

	"modelrights.dev/modelrights/test/bench/cluster"
)

func licensedImage(i int) string { return cluster.Image(i % cluster.LicensesAtFirst) }

// unlicensedImage is in a governed repository, but nobody licensed it.
func unlicensedImage(i int) string {
	return fmt.Sprintf("%s/models/%s/unlicensed-%d/weights:1", cluster.Registry, cluster.LicensorName(i), i%cluster.LicensesAtFirst)
}

// ordinaryImage is on the same registry as the models.
func ordinaryImage(i int) string {
	return fmt.Sprintf("%s/web/shop-%d:1.4.2", cluster.Registry, i%cluster.LicensesAtFirst)
}
