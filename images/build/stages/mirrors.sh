#!/bin/sh
# Run a command with the certificates, mirrors and credentials of the build. BuildKit mounts them as
# secrets, which keeps them out of layers and cache keys.
set -eu
secrets=/run/secrets
if [ -s $secrets/ca ]; then
    for name in SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO; do
        export "$name=$secrets/ca"
    done
fi
if [ -s $secrets/netrc ]; then export NETRC=$secrets/netrc; fi
set -a
if [ -s $secrets/mirrors ]; then . $secrets/mirrors; fi
set +a
exec "$@"
