#!/bin/sh
# Looks up everything that is locked, of Python and of npm, in the advisories of the registries: `make audit`.
# Ends with 1 when there is one. An advisory that does not concern us is named here, with --ignore-vuln and the reason.
set -u
cd "$(dirname "$0")/.."
found=0
for lock in requirements/*.txt; do
    echo "$lock"
    pip-audit --require-hashes --disable-pip --progress-spinner off -r "$lock" || found=1
done
for lock in $(git ls-files '*package-lock.json'); do
    echo "$lock"
    npm audit --prefix "$(dirname "$lock")" --package-lock-only || found=1
done
exit $found
