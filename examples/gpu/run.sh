#!/bin/sh
# Runs run.py on a bare GPU machine that has PyTorch, from the checkout.
#
#     examples/gpu/run.sh CARRIED OUT [options of run.py]
#
# CARRIED holds pack.tar.xz of build.sh and diffusers' wheel. OUT gets gpu.json, gpu.md and logs.tar.gz.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 CARRIED OUT [options]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
carried=$1 out=$2
shift 2
work=$(mktemp -d)
tar -C "$work" -xf "$carried/pack.tar.xz"
python3 -m pip install -q --no-index --no-deps --no-compile --target "$work/site" "$carried"/*.whl
export PYTHONPATH="$work/site" PYTHONUNBUFFERED=1
# CUDA's libraries are those that PyTorch brought.
LD_LIBRARY_PATH=$(python3 -c 'import nvidia, pathlib
print(":".join(str(p) for root in nvidia.__path__ for p in pathlib.Path(root).glob("*/lib")))')
export LD_LIBRARY_PATH
status=0
python3 "$here/run.py" "$work/pack" "$work/out" "$@" || status=$?
mkdir -p "$out"
cp "$work/out/gpu.json" "$work/out/gpu.md" "$out/" || true
rm -rf "$work"/out/*.safetensors
tar -C "$work" -czf "$out/logs.tar.gz" out
exit $status
