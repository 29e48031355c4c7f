#!/bin/sh
# Run a command with what the site needs: its certificates, mirrors and credentials. They come as
# BuildKit secrets, so that they are in no layer and in no cache key.
set -eu
secrets=/run/secrets
if [ -s $secrets/ca ]; then
    for name in SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO; do
        export "$name=$secrets/ca"
    done
fi
if [ -s $secrets/netrc ]; then export NETRC=$secrets/netrc; fi
set -a
if [ -s $secrets/site ]; then . $secrets/site; fi
set +a
exec "$@"
