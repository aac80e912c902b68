#!/bin/bash
# Downloads the Quarto release named in quarto.sha256 (beside this file) and puts it on the PATH.
# That file is `sha256sum`'s own format; to take a newer release, replace its one line.
set -euo pipefail
sums=$(dirname "$(realpath "$0")")/quarto.sha256
read -r _ archive <"$sums"
version=${archive#quarto-}
version=${version%-linux-amd64.tar.gz}
cd "$RUNNER_TEMP"
curl --fail --silent --show-error --location --retry 3 --output "$archive" \
    "https://github.com/quarto-dev/quarto-cli/releases/download/v$version/$archive"
sha256sum --check --strict "$sums"
tar --extract --gzip --file "$archive"
echo "$PWD/quarto-$version/bin" >>"$GITHUB_PATH"
