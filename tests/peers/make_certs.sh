#!/usr/bin/env bash
# Makes a certificate authority and three server certificates under it, for tests on loopback:
#   ca.pem; good.pem (localhost, 127.0.0.1), wrong.pem (another name), expired.pem, each with its .key.
# usage: make_certs.sh FOLDER
set -euo pipefail
mkdir -p "$1"
cd "$1"
rm -f -- *.pem *.key *.csr *.cnf *.index* *.serial*

key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null ||
  openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
key ca.key
openssl req -x509 -new -key ca.key -sha256 -days 30 -subj "/CN=Test authority" \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" -out ca.pem

# name, subject alternative names, first and last day
certificate() {
  key "$1.key"
  openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
  cat >"$1.cnf" <<END
[ca]
default_ca = test
[test]
database = $1.index
serial = $1.serial
new_certs_dir = .
default_md = sha256
policy = any
rand_serial = yes
[any]
commonName = supplied
[leaf]
subjectAltName = $2
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
END
  : >"$1.index"
  openssl ca -batch -config "$1.cnf" -extensions leaf -cert ca.pem -keyfile ca.key -startdate "$3" -enddate "$4" \
    -in "$1.csr" -out "$1.pem" -notext 2>/dev/null
}
day() { date -u -d "$1" +%Y%m%d000000Z; }
certificate good "DNS:localhost,IP:127.0.0.1" "$(day '-2 days')" "$(day '+20 days')"
certificate wrong "DNS:elsewhere.test" "$(day '-2 days')" "$(day '+20 days')"
certificate expired "DNS:localhost,IP:127.0.0.1" "$(day '-20 days')" "$(day '-2 days')"
