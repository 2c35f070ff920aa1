#!/bin/bash
# For the device machine, with OUT set: this folder with tokenizer/ in it and diffusers' wheel beside it.
# Arguments go to train_gpu.py.
set -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
site=/tmp/site
wheels=$(ls "$here"/*.whl "$here"/../*.whl 2>/dev/null)
[ -d $site ] || python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target $site $wheels \
  || exit 1
export PYTHONPATH=$site PYTHONUNBUFFERED=1
work=/dev/shm/pocket
[ -d /dev/shm ] && [ "$(df --output=avail -BG /dev/shm | tail -1 | tr -dc 0-9)" -gt 20 ] || work=/tmp/pocket
rm -rf $work
(
  nvidia-smi --query-gpu=name,driver_version --format=csv,noheader; nproc; df -h /dev/shm /tmp | tail -2
  python3 "$here/train_gpu.py" --work $work --out "$OUT" "$@"
) 2>&1 | tee "$OUT/log.txt"
