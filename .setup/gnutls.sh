#!/bin/sh
# gnutls.sh PEERS: make sure that there is GnuTLS's certtool, by which tests verify certificates, and say which.
# In this order: the machine's; one unpacked before; the system's package, fetched with apt and unpacked into
# PEERS/gnutls. Nothing is installed.
set -eu

peers=$1
found=$(PATH=$PATH:$peers/bin command -v certtool || true)
# On macOS that name is another program.
if [ -n "$found" ] && "$found" --version 2>/dev/null | grep -qi 'certtool [0-9]'; then
	echo "gnutls: $found"
	exit 0
fi

explain() {
	cat >&2 <<MESSAGE
No certtool of GnuTLS was found, and $1. Install it with one of
  Debian, Ubuntu:  apt-get install gnutls-bin
  Fedora, RHEL:    dnf install gnutls-utils
  Alpine:          apk add gnutls-utils
  macOS:           brew install gnutls
and run this again.
MESSAGE
	exit 1
}

. "$(dirname "$0")/unpack.sh"
unpack gnutls gnutls-bin
wrap gnutls usr/bin/certtool
"$peers/bin/certtool" --version | head -1
