#!/bin/sh
# gotool.sh BIN PACKAGE@VERSION: build a Go command into BIN, unless the one there is of that version already.
set -eu

bin=$1 spec=$2
package=${spec%@*} version=${spec#*@}
name=${package##*/}

if go version -m "$bin/$name" 2>/dev/null | awk -v p="$package" -v v="$version" '
	$1 == "path" && $2 == p { path = 1 } $1 == "mod" && $3 == v { mod = 1 } END { exit !(path && mod) }'; then
	exit 0
fi

echo "building $name $version (once)"
mkdir -p "$bin"
# Static, and outside the workspace: a tool must not depend on what our modules require.
GOBIN=$bin GOWORK=off GOFLAGS= CGO_ENABLED=0 go install "$spec"
