#!/bin/sh
# Renews the hashed locks: all of them, or with `engine` those of the engines alone. Needs network;
# everything else in the project works from what it writes.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile --quiet --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links "$@"; }
if [ "${1:-all}" = all ]; then
    build_tools=$(mktemp)
    echo setuptools >"$build_tools"
    compile --universal --python-version 3.11 pyproject.toml "$build_tools" -o requirements/tool.txt
    compile --universal --python-version 3.11 pyproject.toml "$build_tools" --group dev -o requirements/dev.txt
    rm "$build_tools"
    compile --universal --python-version 3.11 requirements/audit.in -o requirements/audit.txt
fi
# The engines are locked for one Python and one platform each: their wheels exist for no other.
engine() { compile --python-version 3.11 --python-platform x86_64-manylinux_2_28 --override bench/engine/locks/overrides.txt "$@"; }
# PyTorch's CPU build is in no package index but PyTorch's own.
if [ -n "${TORCH_WHEELHOUSE:-}" ]; then set -- --find-links "$TORCH_WHEELHOUSE"; else set -- --torch-backend cpu; fi
engine bench/engine/locks/cpu.in "$@" -o bench/engine/locks/cpu.txt
engine bench/engine/locks/cuda.in -o bench/engine/locks/cuda.txt
