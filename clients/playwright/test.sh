#!/bin/sh
# Installs what the tests of this package need, and runs them: `make test-playwright`.
set -eu
cd "$(dirname "$0")"

node --version 2>/dev/null | grep -Eq '^v(2[0-9]|[3-9][0-9])\.' || {
    echo "The tests of @botfarm/playwright need Node.js 20 or newer, with npm." >&2
    exit 1
}

CHROMIUM=$(sh ../../deploy/tests/find-chromium.sh)
export CHROMIUM

install() {
    npm ci --no-audit --no-fund --loglevel=error
}
install # builds the package, too
npm run --silent openapi:check
npm run --silent check
(cd ../../examples/shop/playwright && install)
npx tsc -p ../../examples/shop/playwright
npx playwright test "$@"
