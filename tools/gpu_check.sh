#!/usr/bin/env bash
# Everything that needs a GPU, as one command for a machine that is lent for minutes and has no network: builds, tests,
# headline benchmarks, then all benchmarks and compute-sanitizer. Needs nvcc, cmake, pybind11 and a CUDA build of torch.
#   tools/gpu_check.sh [STAGE...]       stages: info build test headline bench memcheck racecheck; none: all, in this order
# In calls of ten minutes: "info build test headline" first, then "bench memcheck racecheck" on the same machine.
# LEYOLO_SHARED and WEIGHTS: the reference material and LeYOLONano.pt, where they do not lie beside the checkout.
#   tools/gpu_check.sh --rehearse       the same lines on the CPU: kernels run through the shim
# Every stage has a time limit, and none stops the next one. $OUT (default build/gpu-check) gets summary.json, log.txt,
# headline.json, bench.json and their tables as .md. PYTHON, COMMIT and BUDGET (seconds for all) come from the environment.
set -uo pipefail
cd "$(dirname "$0")/.."
export PYTHON=${PYTHON:-python3} PYTHONUNBUFFERED=1
rehearse=0
[ "${1:-}" = --rehearse ] && { rehearse=1; shift; }
export OUT=${OUT:-build/gpu-check}
mkdir -p "$OUT" build/gpu
OUT=$(cd "$OUT" && pwd)
status=build/gpu/status.tsv
if [ "${1:-}" != --inside ]; then
  if [ $rehearse = 1 ]; then
    export DEVICE=cpu PACKAGE=build/shim/python MARK='' JOBS=${JOBS:-2} SAMPLE=${SAMPLE:-25}
  else
    export DEVICE=cuda PACKAGE=build/gpu/python MARK=cuda JOBS=${JOBS:-$(nproc)} SAMPLE=${SAMPLE:-1}
  fi
  export PYTHONPATH=$PWD/$PACKAGE
fi

summary() { # status.tsv as JSON, after every stage
  "$PYTHON" - "$status" "$OUT/summary.json" << 'EOF'
import json, os, pathlib, sys
rows = [line.split("\t") for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
stages = [{"stage": n, "ok": code == "0", "exit": int(code), "seconds": int(s), "says": says} for n, code, s, says in rows]
facts = pathlib.Path("build/gpu/facts.json")
report = {"facts": json.loads(facts.read_text()) if facts.exists() else {}, "stages": stages}
pathlib.Path(sys.argv[2]).write_text(json.dumps(report, indent=1))
EOF
}

stage() { # name, seconds
  local name=$1 limit=$2 left=$((deadline - SECONDS)) begin=$SECONDS code says
  case " $stages " in *" $name "*) ;; *) return ;; esac
  [ "$left" -lt "$limit" ] && limit=$left
  echo "=== $name (at most $limit s)" | tee -a "$OUT/log.txt"
  if [ "$limit" -lt 5 ]; then
    code=125 says='no time left'
  else
    timeout -k 5 "$limit" bash "$0" --inside "$name" > "build/gpu/$name.log" 2>&1
    code=$?
    head -c 2000000 "build/gpu/$name.log" >> "$OUT/log.txt"
    says=$(grep -v '^$' "build/gpu/$name.log" | tail -n 1 | tr '\t' ' ' | cut -c 1-300)
    [ $code = 124 ] && says="stopped after $limit s; $says"
    tail -n "$([ $code = 0 ] && echo 3 || echo 40)" "build/gpu/$name.log"
  fi
  [ $code = 0 ] || failed=1
  printf '%s\t%s\t%s\t%s\n' "$name" "$code" "$((SECONDS - begin))" "$says" >> "$status"
  summary
}

stage_info() {
  command -v nvidia-smi > /dev/null && nvidia-smi
  nvcc --version
  "$PYTHON" -m pip list 2> /dev/null | grep -iE '^(torch|torchvision|numpy|pybind11|cmake|ninja|pytest|triton) '
  "$PYTHON" - << 'EOF'
import json, os, pathlib, platform, shutil, subprocess, torch
def said(*command):
    if not shutil.which(command[0]):
        return ""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
facts = {
    "commit": os.environ.get("COMMIT") or said("git", "describe", "--always", "--dirty"),
    "gpu": said("nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"),
    "nvcc": said("nvcc", "--version").splitlines()[-1:],
    "torch": torch.__version__, "torch_cuda": torch.version.cuda, "cuda_available": torch.cuda.is_available(),
    "python": platform.python_version(), "system": platform.platform(),
}
pathlib.Path("build/gpu/facts.json").write_text(json.dumps(facts))
print(json.dumps(facts))
EOF
}

stage_build() {
  if [ "$DEVICE" = cpu ]; then exec tools/cuda_shim.sh python; fi
  local generator=() capability
  command -v ninja > /dev/null && generator=(-G Ninja)
  capability=$("$PYTHON" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())')
  cmake -S . -B build/gpu/build "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DLEYOLO_CUDA=ON \
    -DCMAKE_CUDA_ARCHITECTURES="$capability" -DPython_EXECUTABLE="$(command -v "$PYTHON")" \
    -Dpybind11_DIR="$("$PYTHON" -m pybind11 --cmakedir)" && cmake --build build/gpu/build -j "$JOBS" || return 1
  mkdir -p "$PACKAGE/leyolo"
  find "$PWD/python/leyolo" -mindepth 1 -maxdepth 1 ! -name '*.so' ! -name __pycache__ \
    -exec ln -sf -t "$PACKAGE/leyolo" {} +
  cmake --install build/gpu/build --prefix "$PACKAGE" --component python
  "$PYTHON" -c 'from leyolo import _C; print(_C.build_info())'
}

# One process per file: an illegal access in one kernel fails all that follow in its process.
test_file() { # file, command
  local file=$1 log code
  shift
  log=build/gpu/$(basename "$file").log
  "$@" -m pytest -q --no-header -p no:cacheprovider --maxfail=10 ${MARK:+-m "$MARK"} "$file" > "$log" 2>&1
  code=$?
  [ $code = 5 ] && code=0 # none of its tests is for this device
  echo "exit $code: $file: $(tail -n 1 "$log")"
  [ $code = 0 ] || tail -n 60 "$log"
  [ $code = 0 ] || echo "$file" >> build/gpu/failed.txt
  return $code
}
test_files() { # tests to keep one of, command
  export LEYOLO_TEST_SAMPLE=$1
  shift
  export -f test_file
  : > build/gpu/failed.txt
  local folders=(tests)
  [ "$DEVICE" = cpu ] && folders=(tests/ops tests/runtime/test_cuda.py) # what else there is, is the CPU's in the shim
  grep -rlwE 'device|cuda' "${folders[@]}" --include='test_*.py' --exclude-dir=cuda | grep -v test_house |
    xargs -P "$((JOBS < 6 ? JOBS : 6))" -I{} bash -c 'test_file "$0" "$@"' {} "$@"
  local code=$?
  if [ $code != 0 ]; then echo "failed: $(tr '\n' ' ' < build/gpu/failed.txt)"; fi
  return $code
}

stage_test() { test_files "$SAMPLE" "$PYTHON" && echo 'all files pass'; }
benchmark() { # name of the results, options
  local name=$1
  shift
  "$PYTHON" benchmarks/gpu/run.py --device "$DEVICE" "$@" --json "$OUT/$name.json" --markdown "$OUT/$name.md"
}
stage_headline() { benchmark headline --quick --limit 60 --budget 140; }
stage_bench() { benchmark bench --budget "$([ "$DEVICE" = cpu ] && echo 590 || echo 190)"; }
stage_memcheck() { sanitize memcheck; }
stage_racecheck() { sanitize racecheck; }

# Few tests, as each runs some hundred times slower.
sanitize() {
  local tool=(compute-sanitizer --tool "$1" --error-exitcode 86 --target-processes all --print-limit 20)
  if ! command -v compute-sanitizer > /dev/null; then
    [ "$DEVICE" = cpu ] || { echo 'compute-sanitizer is not on this machine: NOT TESTED'; return 1; }
    tool=(env) # rehearsal
  fi
  # Without its cache torch's allocations are the tensors: one element too far is seen.
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 test_files "${SANITIZE_SAMPLE:-7}" "${tool[@]}" "$PYTHON" &&
    echo "$1: nothing found"
}

if [ "${1:-}" = --inside ]; then
  "stage_$2"
  exit
fi
stages=${*:-info build test headline bench memcheck racecheck}
deadline=$((SECONDS + ${BUDGET:-570}))
failed=0
: > "$OUT/log.txt"
: > "$status"
stage info 60
stage build 240
stage test 200
stage headline 150
stage bench $((rehearse ? 600 : 200)) # the shim is slow
stage memcheck 200
stage racecheck 200
cat "$OUT/summary.json"
exit $failed
