#!/bin/sh
# Install OS packages, and remove the package manager's caches and logs:
# packages.sh apt|dnf PACKAGE...   APT_MIRROR and DNF_MIRROR replace the host of the package sources.
set -eu
manager=$1
shift
case $manager in
apt)
    etc=/etc/apt
    if [ -n "${APT_MIRROR:-}" ]; then
        etc=/tmp/apt
        cp -r /etc/apt $etc
        find $etc -name '*.list' -o -name '*.sources' | while read -r file; do
            sed -i -E "s#https?://[^/ ]+#${APT_MIRROR%/}#g" "$file"
        done
    fi
    set -- -o "Dir::Etc=$etc" -o "Acquire::https::CAInfo=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" -- "$@"
    options=$(while [ "$1" != -- ]; do printf '%s ' "$1"; shift; done)
    while [ "$1" != -- ]; do shift; done
    shift
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    apt-get $options update -q
    # shellcheck disable=SC2086
    apt-get $options install -qy --no-install-recommends "$@"
    if [ -x /usr/bin/clang-15 ]; then  # triton_ascend calls plain clang
        update-alternatives --install /usr/bin/clang clang /usr/bin/clang-15 20
        update-alternatives --install /usr/bin/clang++ clang++ /usr/bin/clang++-15 20
    fi
    apt-get clean
    rm -rf /var/lib/apt/lists/* /tmp/apt
    ;;
dnf)
    repos=/etc/yum.repos.d
    if [ -n "${DNF_MIRROR:-}" ]; then
        repos=/tmp/yum.repos.d
        cp -r /etc/yum.repos.d $repos
        sed -i -E "s#https?://[^/ ]+#${DNF_MIRROR%/}#g; s#^metalink=.*##" $repos/*.repo
    fi
    dnf --setopt="reposdir=$repos" --setopt=install_weak_deps=False install -y "$@"
    dnf clean all
    rm -rf /var/cache/dnf /tmp/yum.repos.d
    ;;
esac
rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/log/dnf* /var/log/hawkey.log
