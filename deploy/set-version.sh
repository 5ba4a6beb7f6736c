#!/bin/sh
# Sets the version of both distributions, of the one's requirement of the other, and of the chart.
set -eu
cd "$(dirname "$0")/.."
version=${1:?the new version, such as 0.2.0}
case $version in
    *[!0-9.]* | .* | *. | *..*) echo "set-version.sh: a version is numbers and dots, such as 0.2.0" >&2 && exit 2 ;;
esac
sed -i "s/^__version__ = .*/__version__ = \"$version\"/" botfarm/__init__.py clients/python/botfarm_client/__init__.py
sed -i "s/\"botfarm-client==.*\"/\"botfarm-client==$version\"/" pyproject.toml
sed -i "s/^\(version\|appVersion\): .*/\1: $version/" deploy/helm/botfarm/Chart.yaml
echo "Now: sh deploy/k8s/render.sh, the changelog, and a tag v$version."
