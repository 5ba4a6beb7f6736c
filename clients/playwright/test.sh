#!/bin/sh
# Installs what the tests of this package need, and runs them: `make test-playwright`.
set -eu
cd "$(dirname "$0")"

node --version 2>/dev/null | grep -Eq '^v(2[0-9]|[3-9][0-9])\.' || {
    echo "The tests of @botfarm/playwright need Node.js 20 or newer, with npm." >&2
    exit 1
}

find_chromium() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
}
CHROMIUM=${CHROMIUM:-$(find_chromium || true)}
if [ -z "$CHROMIUM" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    sh ../../deploy/tests/install-packages.sh chromium fonts-dejavu-core
    CHROMIUM=$(find_chromium)
fi
[ -n "$CHROMIUM" ] || { echo "Install Chromium, or say where it is: CHROMIUM=/path/to/chromium" >&2; exit 1; }
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
