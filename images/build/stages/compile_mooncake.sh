#!/bin/bash
# Compile Mooncake in /src with its ascend_direct transport, and install it to /tree. /yalantinglibs
# is a header library that it needs. Paths in /tree have no symbolic links: a layer would replace
# CANN's link `latest` with a directory.
source /usr/local/Ascend/ascend-toolkit/set_env.sh # continues after a failed command
set -e
toolkit=/usr/local/Ascend/ascend-toolkit/latest/$(uname -m)-linux
export LD_LIBRARY_PATH=$toolkit/devlib:$toolkit/lib64:$LD_LIBRARY_PATH

install() {
    cmake -S "$1" -B /build "${@:2}"
    cmake --build /build -j "$(nproc)"
    cmake --install /build
}

install /yalantinglibs -DBUILD_EXAMPLES=OFF -DBUILD_BENCHMARK=OFF -DBUILD_UNIT_TESTS=OFF
rm -rf /build
install /src -DUSE_ASCEND_DIRECT=ON
while read -r file || [ -n "$file" ]; do
    directory=/tree$(readlink -f "$(dirname "$file")")
    mkdir -p "$directory"
    cp -a "$file" "$directory/"
done </build/install_manifest.txt
