#!/bin/sh
# chromium.sh PEERS: make sure that there is a Chromium to use the dashboard with, and say which.
# In this order: CHROMIUM; the machine's; one unpacked before; the system's package, fetched with apt and unpacked into
# PEERS/chromium.
set -eu

peers=$1
found=${CHROMIUM:-$(PATH=$PATH:$peers/bin; command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [ -n "$found" ]; then
	echo "chromium: $found"
	exit 0
fi

explain() {
	cat >&2 <<MESSAGE
No Chromium was found, and $1. Install it with one of
  Debian:          apt-get install chromium
  Ubuntu:          snap install chromium
  Fedora, RHEL:    dnf install chromium
  Alpine:          apk add chromium
  macOS:           brew install --cask chromium
or name one in CHROMIUM, and run this again.
MESSAGE
	exit 1
}

. "$(dirname "$0")/unpack.sh"
unpack chromium chromium
wrap chromium usr/lib/chromium/chromium
"$peers/bin/chromium" --version
