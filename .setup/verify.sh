#!/usr/bin/env bash
# verify.sh MODULE_DIR...: what the compiler does not check. Changes nothing that was right; leaves regenerated files behind
# where they were not, so that the difference can be read and committed.
set -euo pipefail

modules=("$@")
failed=0

# A module has something to build only once it holds a package.
has_packages() { [ -n "$(find "$1" -name '*.go' -not -path '*/testdata/*' -print -quit)" ]; }

fingerprints() {
	{
		git ls-files --cached --others --exclude-standard -- '*.gen.go' '*.gen.yaml' '*.gen.md' '*.gen.ts' contracts
	} | sort -u | while read -r file; do if [ -f "$file" ]; then sha256sum "$file"; fi; done
}

echo '-- generated files are what make generate writes'
before=$(fingerprints)
make --no-print-directory generate
if ! changes=$(diff <(echo "$before") <(fingerprints)); then
	echo 'out of date, now regenerated; look at them and commit:' >&2
	echo "$changes" | awk '/^[<>]/ { print "  " $3 }' | sort -u >&2
	failed=1
fi

echo '-- go.mod of every module is tidy, and says all that the module needs to build alone'
for module in "${modules[@]}"; do
	if ! (cd "$module" && GOWORK=off go mod tidy -diff); then
		echo "not tidy: $module (run: make tidy)" >&2
		failed=1
	elif has_packages "$module" && ! (cd "$module" && GOWORK=off go build ./...); then
		echo "does not build alone: $module" >&2
		failed=1
	fi
done

echo '-- architecture rules'
# -count=1: the test cache does not see that another module has changed.
go test -count=1 ./libs/testkit/archtest/... || failed=1

exit $failed
