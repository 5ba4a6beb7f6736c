#!/bin/sh
# Installs Debian packages, as root. One run at a time: apt ends at once when another holds the lock of its lists.
set -eu
exec 9</var/lib/dpkg
flock 9
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@" >/dev/null 9<&-
