#!/bin/sh
# Renders the plain manifests from the chart, into this folder or into the one that is named. Needs Helm.
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-deploy/k8s}
helm=$(command -v "${HELM:-helm}") || { echo "render.sh needs Helm: put it on the PATH, or its path into HELM." >&2; exit 1; }
render() {
    echo "# Rendered from deploy/helm/botfarm by deploy/k8s/render.sh: change it there."
    "$helm" template botfarm deploy/helm/botfarm --values deploy/k8s/values.yaml "$@"
}
render >"$folder/botfarm.yaml"
# Apart, because not every cluster knows these kinds.
render --set monitoring.serviceMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.dashboards.enabled=true \
    --show-only templates/servicemonitor.yaml --show-only templates/prometheusrule.yaml \
    --show-only templates/dashboards.yaml >"$folder/monitoring.yaml"
