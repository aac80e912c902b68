#!/bin/sh
# Says which packages of the locks have a known advisory, in Markdown, and fails if any has one that
# is not in accepted-advisories.txt, or could not be asked about. Needs network, and pip-audit.
set -u
cd "$(dirname "$0")/.."
accepted=$(sed -n 's/^\([A-Za-z][A-Za-z0-9-]*\).*/--ignore-vuln \1/p' requirements/accepted-advisories.txt)
wanted=$(mktemp)
failed=
for lock in requirements/tool.txt requirements/dev.txt requirements/audit.txt \
    bench/engine/locks/cpu.txt bench/engine/locks/cuda.txt; do
    printf '\n## %s\n\n' "$lock"
    # PyTorch's CPU build is another one of the same sources, which the index of advisories names.
    sed 's/^\(torch==[0-9.]*\)+cpu/\1/' "$lock" >"$wanted"
    # shellcheck disable=SC2086  (words)
    pip-audit --strict --require-hashes --disable-pip --progress-spinner off --format markdown \
        --desc off $accepted --requirement "$wanted" || failed="$failed $lock"
done
rm "$wanted"
[ -z "$failed" ] || {
    printf '\nLook at:%s. Renew a lock with requirements/lock.sh, the engines with the workflow\n' "$failed"
    echo 'Engine, or write the advisory and why it does no harm into requirements/accepted-advisories.txt.'
    exit 1
}
