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

for tool in apt-get dpkg-deb dpkg; do
	command -v $tool >/dev/null 2>&1 || explain "there is no $tool to fetch one with"
done

echo "softhsm: unpacking the system's package (once)"
work=$peers/softhsm.new
rm -rf "$work"
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/debs" "$work/root"

# apt with its lists and caches in our folder: an ordinary user may do this, and the machine's own lists stay as they
# are. What the packages need besides themselves, OpenSSL's library, is there with the openssl that tests use anyway.
apt() {
	apt-get -qq -o Debug::NoLocking=1 -o APT::Sandbox::User= -o Dir::State::Lists="$work/lists" \
		-o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives" -o APT::Install-Recommends=0 "$@"
}
apt update >"$work/log" 2>&1 || { cat "$work/log" >&2; explain "apt could not fetch its lists"; }
(cd "$work/debs" && apt download softhsm2 libsofthsm2) >>"$work/log" 2>&1 || { cat "$work/log" >&2; explain "apt could not fetch it"; }
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done

rm -rf "$peers/softhsm"
mv "$work/root" "$peers/softhsm"
rm -rf "$work"
ln -sfn ../softhsm/usr/bin/softhsm2-util "$peers/bin/softhsm2-util"

found=$(module "$peers/softhsm")
[ -n "$found" ] || explain "the package holds no libsofthsm2.so"
works "$peers/bin/softhsm2-util" "$found" || explain "the package's tool does not load its module"
have "$found"
