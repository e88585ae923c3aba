#!/bin/sh
# softhsm.sh PEERS: make sure that there is a SoftHSM 2, a PKCS#11 token of software to test with, and say which.
# In this order: the machine's, unless SOFTHSM_UNPACK is set; one unpacked before; the system's package, fetched with
# apt and unpacked into PEERS/softhsm. Unpacked and not installed, for root too: installing it would make a user and a
# folder of keys. Tests find the module as PEERS/lib/libsofthsm2.so, and the tool on PATH or in PEERS/bin.
set -eu

peers=$1
mkdir -p "$peers/lib" "$peers/bin"

# Where distributions put the module.
module() {
	for folder in "$1"/usr/lib/softhsm "$1"/usr/lib/*/softhsm "$1"/usr/lib64/softhsm "$1"/usr/lib64/pkcs11 "$1"/usr/local/lib/softhsm \
		"$1"/opt/homebrew/lib/softhsm; do
		if [ -e "$folder/libsofthsm2.so" ]; then
			readlink -f "$folder/libsofthsm2.so"
			return
		fi
	done
}

# Both halves work together: the tool loads the module, in a folder of its own.
works() {
	work=$(mktemp -d)
	mkdir "$work/tokens"
	echo "directories.tokendir = $work/tokens" >"$work/softhsm2.conf"
	status=0
	SOFTHSM2_CONF=$work/softhsm2.conf "$1" --module "$2" --show-slots >/dev/null 2>&1 || status=1
	rm -rf "$work"
	return $status
}

# have MODULE: link it where tests look, and say so.
have() {
	ln -sfn "$1" "$peers/lib/libsofthsm2.so"
	echo "softhsm: $1"
	exit 0
}

tool=$(PATH=$PATH:/usr/local/bin:/opt/homebrew/bin command -v softhsm2-util || true)
found=$(module "")
if [ -z "${SOFTHSM_UNPACK:-}" ] && [ -n "$tool" ] && [ -n "$found" ] && works "$tool" "$found"; then
	have "$found"
fi
found=$(module "$peers/softhsm")
if [ -n "$found" ] && works "$peers/bin/softhsm2-util" "$found"; then
	have "$found"
fi

explain() {
	cat >&2 <<MESSAGE
No SoftHSM 2 was found, and $1. Install it with one of
  Debian, Ubuntu:  apt-get install softhsm2
  Fedora, RHEL:    dnf install softhsm
  Alpine:          apk add softhsm
  macOS:           brew install softhsm
and run this again.
MESSAGE
	exit 1
}

. "$(dirname "$0")/unpack.sh"
unpack softhsm softhsm2 libsofthsm2
ln -sfn ../softhsm/usr/bin/softhsm2-util "$peers/bin/softhsm2-util"

found=$(module "$peers/softhsm")
[ -n "$found" ] || explain "the package holds no libsofthsm2.so"
works "$peers/bin/softhsm2-util" "$found" || explain "the package's tool does not load its module"
have "$found"
