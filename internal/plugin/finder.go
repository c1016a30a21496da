package plugin

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/workloads"
)

// confidences are the degrees of confidence, as flags and output name them.
var confidences = []string{string(images.Declared), string(images.Inferred), string(images.Unresolved)}

// addTableFlag adds the flag that extends the table of kinds whose images cannot be guessed.
func addTableFlag(cmd *cobra.Command, tables *[]string) {
	cmd.Flags().StringArrayVar(tables, "workload-table", nil,
		"File that says where custom resources name images: {workloads: [...]}, with entries as in the chart's value workloads.table. They count before those that are built in. May be repeated.")
	cobra.CheckErr(cmd.MarkFlagFilename("workload-table", "yaml", "yml", "json"))
}

// readTable is the table that comes with modelrights, with those of files before it.
func readTable(files []string) (workloads.Table, error) {
	table := workloads.Default()
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return workloads.Table{}, fmt.Errorf("--workload-table: %w", err)
		}
		more, err := workloads.ParseTable(content)
		if err != nil {
			return workloads.Table{}, fmt.Errorf("--workload-table %s: %w", name, err)
		}
		table = table.With(more)
	}
	return table, nil
}
