#!/usr/bin/env bash
# Renders config/ from the chart, and bounds the CustomResourceDefinitions and copies them into the chart.
#
# controller-gen writes config/crd/bases; the chart is the source of everything else. HELM names the helm binary.
# Written by hand: config/crd, config/default, config/kubernetes-1.34, config/samples, and config/manager/namespace.yaml,
# since a chart cannot hold the namespace that it is installed in.
set -euo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
helm=${HELM:-_output/bin/helm}
if ! command -v "$helm" >/dev/null; then
  echo "render-config: $helm is missing: run make manifests, which builds it, or set HELM" >&2
  exit 1
fi

go run ./hack/crdbounds config/crd/bases

chart=charts/modelrights
rm -f "$chart"/files/crds/*.yaml
mkdir -p "$chart/files/crds"
cp config/crd/bases/*.yaml "$chart/files/crds/"

rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT
# The newest Kubernetes that the project is tested with; config/kubernetes-1.34 takes away what older ones do not know.
"$helm" template modelrights "$chart" --namespace modelrights-system --kube-version 1.37.0 \
  --set crds.enabled=false --output-dir "$rendered" >/dev/null

for directory in rbac policy webhook manager node; do
  mkdir -p "config/$directory"
  # Only what this script wrote earlier goes away.
  { grep -l '^# Generated from charts/modelrights' "config/$directory"/*.yaml 2>/dev/null || true; } | xargs -r rm -f
  for source in "$rendered/modelrights/templates/$directory"/*.yaml; do
    name=$(basename "$source")
    {
      echo "# Generated from $chart/templates/$directory/$name by hack/render-config.sh. Change it there."
      # Blank lines and origins that helm adds say nothing here.
      sed -e '/^# Source: /d' -e '/^$/d' "$source"
    } >"config/$directory/$name"
  done
  {
    echo "# Generated from $chart/templates/$directory by hack/render-config.sh."
    echo "apiVersion: kustomize.config.k8s.io/v1beta1"
    echo "kind: Kustomization"
    echo "resources:"
    for file in "config/$directory"/*.yaml; do
      name=$(basename "$file")
      [ "$name" = kustomization.yaml ] || echo "- $name"
    done
  } >"config/$directory/kustomization.yaml"
done
