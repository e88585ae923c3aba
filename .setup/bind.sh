#!/bin/sh
# bind.sh PEERS: make sure that there is a BIND (named) that tests can have names proven by, and say which.
# In this order: the machine's (PATH, sbin); one unpacked before; the system's package, fetched with apt and unpacked
# into PEERS/bind. Unpacked and not installed, for root too: installing it would start a DNS server on port 53.
set -eu

peers=$1
found=$(PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:$peers/bin command -v named || true)
if [ -n "$found" ]; then
	echo "named: $found"
	exit 0
fi

explain() {
	cat >&2 <<MESSAGE
No BIND was found, and $1. Install it with one of
  Debian, Ubuntu:  apt-get install bind9
  Fedora, RHEL:    dnf install bind
  Alpine:          apk add bind
  macOS:           brew install bind
and run this again. It need not be running.
MESSAGE
	exit 1
}

. "$(dirname "$0")/unpack.sh"
unpack bind bind9
wrap bind usr/sbin/named
"$peers/bin/named" -v
