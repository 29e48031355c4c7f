#!/bin/bash
# Compile Mooncake in /src with its ascend_direct transport, and leave what it installs in /tree.
# yalantinglibs is a header library of Mooncake's, in /yalantinglibs. The paths in /tree have no
# symbolic link in them: `latest` is one in CANN, and a layer would replace it by a directory.
source /usr/local/Ascend/ascend-toolkit/set_env.sh # it goes on after a command that fails
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
