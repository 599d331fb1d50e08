#!/usr/bin/env bash
# Builds in place for development: kernels, torch operators and `_C` land in python/leyolo (ignored by git).
#   PYTHON=/path/to/python tools/dev_build.sh [cmake arguments, e.g. -DLEYOLO_CUDA=OFF]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
cmake -S . -B build/dev -G Ninja -DPython_EXECUTABLE="$(command -v "$python")" \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" -DCMAKE_BUILD_TYPE=Release "$@" > build_dev.log 2>&1 || { cat build_dev.log; rm -f build_dev.log; exit 1; }
rm -f build_dev.log
cmake --build build/dev
cmake --install build/dev --prefix python --component python > /dev/null
