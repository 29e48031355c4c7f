#!/bin/bash
# Run CANN's installers: install_cann.sh TOOLKIT KERNELS NNAL. The order matters: the kernels are
# installed into the toolkit, and nnal's installer needs the toolkit's environment.
set -e
toolkit=$1 kernels=$2 nnal=$3
for installer in "$toolkit" "$kernels"; do
    bash "$installer" --quiet --install --install-for-all
done
set +e # the script continues after a failed command
source /usr/local/Ascend/ascend-toolkit/set_env.sh
set -e
bash "$nnal" --quiet --install --install-for-all
rm -rf /root/ascend /root/log /var/log/ascend_seclog
