#!/bin/sh
# Prints where Chromium is: CHROMIUM, or what is installed. As root installs it where there is none.
set -eu
here=$(dirname "$0")

installed() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
}
CHROMIUM=${CHROMIUM:-$(installed || true)}
if [ -z "$CHROMIUM" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    sh "$here/install-packages.sh" chromium fonts-dejavu-core
    CHROMIUM=$(installed)
fi
[ -n "$CHROMIUM" ] || { echo "Install Chromium, or say where it is: CHROMIUM=/path/to/chromium" >&2; exit 1; }
echo "$CHROMIUM"
