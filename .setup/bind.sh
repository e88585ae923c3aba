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

for tool in apt-get dpkg-deb dpkg; do
	command -v $tool >/dev/null 2>&1 || explain "there is no $tool to fetch one with"
done

echo "named: unpacking the system's package (once)"
work=$peers/bind.new
rm -rf "$work"
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/debs" "$work/root"

# apt with its lists and caches in our folder: an ordinary user may do this, and the machine's own lists stay as they
# are. What is installed is read from the machine, so that only what is missing here is fetched.
apt() {
	apt-get -qq -o Debug::NoLocking=1 -o APT::Sandbox::User= -o Dir::State::Lists="$work/lists" \
		-o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives" -o APT::Install-Recommends=0 "$@"
}
apt update >"$work/log" 2>&1 || { cat "$work/log" >&2; explain "apt could not fetch its lists"; }
packages=$(apt --simulate install bind9 2>>"$work/log" | awk '$1 == "Inst" { print $2 }')
[ -n "$packages" ] || { cat "$work/log" >&2; explain "apt found no way to have one"; }
# shellcheck disable=SC2086 # a list of names, one word each
(cd "$work/debs" && apt download $packages) >>"$work/log" 2>&1 || { cat "$work/log" >&2; explain "apt could not fetch it"; }
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done

binary=$work/root/usr/sbin/named
[ -x "$binary" ] || explain "the package holds no /usr/sbin/named"
rm -rf "$peers/bind"
mv "$work/root" "$peers/bind"
rm -rf "$work"

mkdir -p "$peers/bin"
libraries=$(cd "$peers/bind" && find . -name '*.so*' -exec dirname {} + | sort -u | sed 's|^\.|$root|' | paste -sd: -)
cat >"$peers/bin/named" <<WRAPPER
#!/bin/sh
# The unpacked BIND, with the libraries that came with it. Its built-in paths (/etc/bind, /var/cache/bind, /run/named) may
# not exist here: a configuration names its own, and is given with -c.
root=\$(cd "\$(dirname "\$(readlink -f "\$0")")/../bind" && pwd)
export LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "\$root/usr/sbin/named" "\$@"
WRAPPER
chmod +x "$peers/bin/named"
"$peers/bin/named" -v
