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

for tool in apt-get dpkg-deb dpkg; do
	command -v $tool >/dev/null 2>&1 || explain "there is no $tool to fetch one with"
done

echo "gnutls: unpacking the system's package (once)"
work=$peers/gnutls.new
rm -rf "$work"
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/debs" "$work/root"

# apt with its lists and caches in our folder, as in nginx.sh.
apt() {
	apt-get -qq -o Debug::NoLocking=1 -o APT::Sandbox::User= -o Dir::State::Lists="$work/lists" \
		-o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives" -o APT::Install-Recommends=0 "$@"
}
apt update >"$work/log" 2>&1 || { cat "$work/log" >&2; explain "apt could not fetch its lists"; }
packages=$(apt --simulate install gnutls-bin 2>>"$work/log" | awk '$1 == "Inst" { print $2 }')
# Where the package is installed and its program was removed, there is nothing to simulate.
[ -n "$packages" ] || packages=gnutls-bin
# shellcheck disable=SC2086 # a list of names, one word each
(cd "$work/debs" && apt download $packages) >>"$work/log" 2>&1 || { cat "$work/log" >&2; explain "apt could not fetch it"; }
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done

[ -x "$work/root/usr/bin/certtool" ] || explain "the package holds no /usr/bin/certtool"
rm -rf "$peers/gnutls"
mv "$work/root" "$peers/gnutls"
rm -rf "$work"

mkdir -p "$peers/bin"
libraries=$(cd "$peers/gnutls" && find . -name '*.so.*' -exec dirname {} + | sort -u | sed 's|^\.|$root|' | paste -sd: -)
cat >"$peers/bin/certtool" <<WRAPPER
#!/bin/sh
# The unpacked certtool, with the libraries that came with it.
root=\$(cd "\$(dirname "\$(readlink -f "\$0")")/../gnutls" && pwd)
export LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "\$root/usr/bin/certtool" "\$@"
WRAPPER
chmod +x "$peers/bin/certtool"
"$peers/bin/certtool" --version | head -1
