#!/bin/sh
# Where no Docker is running, root installs what starts one; the tests start and stop it themselves.
set -eu
docker info >/dev/null 2>&1 && exit 0
command -v dockerd >/dev/null && command -v mmdebstrap >/dev/null && command -v iptables >/dev/null \
    && command -v umount >/dev/null && exit 0
command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || exit 0
sh "$(dirname "$0")/install-packages.sh" docker.io iptables mmdebstrap mount
