#!/bin/sh
# nginx.sh PEERS: make sure that there is an NGINX to install certificates into, and say which.
# In this order: the machine's (PATH, sbin); one unpacked before; the system's package, fetched with apt and unpacked
# into PEERS/nginx. Unpacked and not installed, for root too: installing it would start a web server on port 80.
set -eu

peers=$1
found=$(PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:$peers/bin command -v nginx || true)
if [ -n "$found" ]; then
	echo "nginx: $found"
	exit 0
fi

explain() {
	cat >&2 <<MESSAGE
No NGINX was found, and $1. Install it with one of
  Debian, Ubuntu:  apt-get install nginx
  Fedora, RHEL:    dnf install nginx
  Alpine:          apk add nginx
  macOS:           brew install nginx
and run this again. It need not be running.
MESSAGE
	exit 1
}

. "$(dirname "$0")/unpack.sh"
unpack nginx nginx
wrap nginx usr/sbin/nginx
"$peers/bin/nginx" -v
