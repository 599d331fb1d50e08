#!/usr/bin/env bash
# CUDA kernels on the CPU (tests/cpp/cuda/cuda_shim.h); needs the CUDA headers that come with nvcc, and no GPU.
#   tools/cuda_shim.sh plain [TEST...]   the C++ tests, threads in order and shuffled by a few seeds
#   tools/cuda_shim.sh asan  [TEST...]   shuffled once, under AddressSanitizer and UndefinedBehaviorSanitizer
#   tools/cuda_shim.sh tsan  [TEST...]   the same under ThreadSanitizer: a race detector for kernels
#   tools/cuda_shim.sh python [pytest arguments]   build/shim/python: a leyolo whose tensors all count as CUDA's
# plain and python share one build, which takes pybind11 too. TEST: beginnings of names. PYTHON, SEEDS, JOBS and CMAKE_ARGS come from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
mode=${1:-}
shift || true

build() { # folder, cmake arguments
  local folder=build/shim/$1
  shift
  mkdir -p "$folder"
  # shellcheck disable=SC2086
  cmake -S . -B "$folder" -G Ninja -DLEYOLO_CUDA_SHIM=ON -DCMAKE_BUILD_TYPE=Release "$@" ${CMAKE_ARGS:-} \
    > "$folder/configure.log" 2>&1 || { cat "$folder/configure.log" >&2; exit 1; }
  cmake --build "$folder" -j "${JOBS:-2}" -- --quiet
}

extension() { # with the C++ tests
  build plain -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)"
}

core=(-DLEYOLO_CORE_ONLY=ON -DCMAKE_CXX_FLAGS_RELEASE=-O1)
case $mode in
  plain) seeds=${SEEDS:-0 1 2 3} ;;
  # With -O3 the checks take several times as long to compile as they take to run.
  asan) sanitizer=address,undefined seeds=${SEEDS:-1} ;;
  tsan) sanitizer=thread seeds=${SEEDS:-1} ;;
  python)
    extension
    rm -rf build/shim/python
    mkdir -p build/shim/python/leyolo
    find "$PWD/python/leyolo" -mindepth 1 -maxdepth 1 ! -name '*.so' ! -name __pycache__ \
      -exec ln -sf -t build/shim/python/leyolo {} +
    cmake --install build/shim/plain --prefix build/shim/python --component python > /dev/null
    export PYTHONPATH=build/shim/python
    "$python" -c 'from leyolo import _C; cuda = _C.build_info()["cuda"]; print("cuda:", cuda); assert "shim" in cuda'
    if [ $# -gt 0 ]; then "$python" -m pytest -q -p no:cacheprovider "$@"; fi
    exit ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
if [ "$mode" = plain ]; then extension; else build "$mode" "${core[@]}" -DLEYOLO_SANITIZE="$sanitizer"; fi
run=("build/shim/$mode/tests/cpp/leyolo_cuda_tests")
# ThreadSanitizer needs addresses where it expects them.
if [ "$mode" = tsan ] && setarch -R true 2> /dev/null; then run=(setarch -R "${run[@]}"); fi
for seed in $seeds; do
  echo "$mode, seed $seed"
  LEYOLO_SHIM_SEED=$seed TSAN_OPTIONS="halt_on_error=0 ${TSAN_OPTIONS:-}" "${run[@]}" "$@"
done
