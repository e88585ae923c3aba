# unpack.sh is read by the scripts beside it that fetch a server or a tool: how a package of the system is unpacked into
# PEERS, for whoever has no right to install it, or should not. The reader has set peers, and defines explain, which says
# what could not be done and how a person does it, and ends the script.
# shellcheck shell=sh disable=SC2154 # peers is the reader's

# unpack NAME PACKAGE...: fetch packages, with what they need that is missing here, and unpack them into PEERS/NAME.
unpack() {
	name=$1
	shift
	for tool in apt-get dpkg-deb dpkg; do
		command -v $tool >/dev/null 2>&1 || explain "there is no $tool to fetch one with"
	done
	echo "$name: unpacking the system's package (once)"
	work=$peers/$name.new
	rm -rf "$work"
	mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/debs" "$work/root"
	apt update >"$work/log" 2>&1 || { cat "$work/log" >&2; explain "apt could not fetch its lists"; }
	packages=$(apt --simulate install "$@" 2>>"$work/log" | awk '$1 == "Inst" { print $2 }')
	# Where a package is installed and its files were removed, there is nothing to simulate.
	[ -n "$packages" ] || packages=$*
	# shellcheck disable=SC2086 # a list of names, one word each
	(cd "$work/debs" && apt download $packages) >>"$work/log" 2>&1 || { cat "$work/log" >&2; explain "apt could not fetch it"; }
	for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
	rm -rf "${peers:?}/$name"
	mv "$work/root" "$peers/$name"
	rm -rf "$work"
}

# apt is apt-get with its lists and caches in our folder: an ordinary user may do this, and the machine's own lists stay
# as they are. What is installed is read from the machine.
apt() {
	apt-get -qq -o Debug::NoLocking=1 -o APT::Sandbox::User= -o Dir::State::Lists="$work/lists" \
		-o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives" -o APT::Install-Recommends=0 "$@"
}

# wrap NAME PATH: make PEERS/bin/PROGRAM, which runs PATH of what was unpacked as NAME with the libraries that came with it.
wrap() {
	[ -x "$peers/$1/$2" ] || explain "the package holds no /$2"
	program=$peers/bin/$(basename "$2")
	libraries=$(cd "$peers/$1" && find . -name '*.so*' -exec dirname {} + | sort -u | sed 's|^\.|$root|' | paste -sd: -)
	mkdir -p "$peers/bin"
	cat >"$program" <<WRAPPER
#!/bin/sh
# Paths that are built into it (/etc, /run, /var) may not exist here; a configuration names its own.
root=\$(cd "\$(dirname "\$(readlink -f "\$0")")/../$1" && pwd)
export LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "\$root/$2" "\$@"
WRAPPER
	chmod +x "$program"
}
