# make demo | test | test-neon | cuda-check | bench | lint: each sets up what it needs, on a fresh Debian or Ubuntu with Python >= 3.10.
#   make demo [WEIGHTS=LeYOLONano.pt] [SOURCE=picture.jpg]
PYTHON ?= python3
VENV ?= .venv
python := $(VENV)/bin/python
WEIGHTS ?=
SOURCE ?=
sources := pyproject.toml CMakeLists.txt $(shell find csrc python -name '*.py' -o -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

.PHONY: demo test test-cpp test-neon neon-tools cuda-check cuda-shim cuda-tools bench lint format clean
.DELETE_ON_ERROR:

# The compiler and venv come from the system; root installs them, others are told what to ask for.
$(VENV)/.created: constraints.txt
	@command -v c++ > /dev/null && $(PYTHON) -c 'import ensurepip' 2> /dev/null || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -qy g++ python3-venv python3-dev; } || \
	  { echo 'leyolo needs a C++20 compiler and venv: sudo apt-get install g++ python3-venv python3-dev' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(python) -m pip install -q -c constraints.txt torch numpy
	touch $@

# Kernels for GPUs only where there is one: they take minutes. `make cuda-check` compiles them everywhere.
gpu_kernels := -C cmake.define.LEYOLO_CUDA=$(if $(shell command -v nvidia-smi),AUTO,OFF)

$(VENV)/.installed: $(VENV)/.created $(sources)
	$(python) -m pip install -q -c constraints.txt $(gpu_kernels) '.[torch,test,lint]'
	touch $@

demo: $(VENV)/.installed
	$(if $(WEIGHTS),@mkdir -p build && $(python) docs/street.py build/street.png)
	$(VENV)/bin/leyolo predict $(if $(SOURCE),'$(SOURCE)',$(if $(WEIGHTS),build/street.png)) $(if $(WEIGHTS),--model '$(WEIGHTS)') \
	  --project runs --name demo --exist-ok
	@echo 'the picture with boxes is in runs/demo'

# The kernels alone, as a plain C++ program under AddressSanitizer and UndefinedBehaviorSanitizer, on every ISA. With -O3
# the checks of one convolution take five minutes to compile.
test-cpp: $(VENV)/.created
	$(python) -m pip install -q cmake ninja
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake -S . -B build/sanitize -G Ninja -DLEYOLO_CORE_ONLY=ON \
	  -DLEYOLO_SANITIZE=address,undefined -DLEYOLO_CUDA=OFF -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 > /dev/null
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --build build/sanitize
	for isa in baseline avx2 avx512; do LEYOLO_ISA=$$isa build/sanitize/tests/cpp/leyolo_tests || exit 1; done

# The same tests as a 64-bit ARM program (NEON), under emulation.
test-neon: neon-tools $(VENV)/.created
	$(python) -m pip install -q cmake ninja
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake -S . -B build/neon -G Ninja -DLEYOLO_CORE_ONLY=ON -DLEYOLO_CUDA=OFF \
	  -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ > /dev/null
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --build build/neon
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/neon/tests/cpp/leyolo_tests

neon-tools:
	@command -v aarch64-linux-gnu-g++ > /dev/null && command -v qemu-aarch64 > /dev/null || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -qy g++-aarch64-linux-gnu qemu-user; } || \
	  { echo 'NEON needs a cross compiler and an emulator: sudo apt-get install g++-aarch64-linux-gnu qemu-user' >&2; exit 1; }

# CUDA without a GPU: every kernel compiled for every shipped architecture (ARCH=90: for one), its registers and spills
# held against a table, and its body run on the CPU: values, sanitizers, races, planted mistakes. Then a rehearsal of what
# runs where there is a GPU.
ARCH ?=
cuda-check: cuda-shim
	$(with_nvcc) tools/cuda_shim.sh plain
	$(with_nvcc) tools/cuda_shim.sh asan
	$(with_nvcc) tools/cuda_shim.sh tsan
	$(with_nvcc) tools/cuda_shim.sh python tests/ops tests/runtime/test_cuda.py
	$(with_nvcc) $(python) tools/cuda_resources.py --ran $(record) --link build/shim/plain/libkernels_cuda.a $(if $(ARCH),--arch $(ARCH))
	PYTHONPATH=build/shim/python LEYOLO_TEST_SAMPLE=2 LEYOLO_TEST_FIRST=1 $(python) -m pytest -q tests/cuda & other=$$!; \
	PYTHONPATH=build/shim/python LEYOLO_TEST_SAMPLE=2 $(python) -m pytest -q tests/cuda; code=$$?; \
	wait $$other && exit $$code
	$(with_nvcc) BUDGET=1200 tools/gpu_check.sh --rehearse

record := $(CURDIR)/build/shim/kernels-run.txt
cuda_bin = $(shell command -v nvcc > /dev/null || printf '%s:' "$(CURDIR)"/$(VENV)/lib/python3.*/site-packages/nvidia/cu13/bin)
with_nvcc = PATH="$(CURDIR)/$(VENV)/bin:$(cuda_bin)$$PATH" PYTHON=$(python) LEYOLO_SHIM_RECORD=$(record)

cuda-shim: cuda-tools
	rm -f $(record)
	$(with_nvcc) tools/cuda_shim.sh python

cuda-tools: $(VENV)/.installed
	$(python) -m pip install -q cmake ninja pybind11
	@command -v nvcc > /dev/null || $(python) -m pip install -q nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 \
	  nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 || \
	  { echo 'no nvcc: install the CUDA toolkit, or let pip reach nvidia-cuda-nvcc' >&2; exit 1; }

# Kernels, the network and official detections on every instruction set of the machine, then everything on the best one.
test: $(VENV)/.installed test-cpp
	best=$$($(python) -c 'from leyolo._C import cpu_features; print(cpu_features()["isa"])'); \
	for isa in baseline avx2; do \
	  [ $$isa = $$best ] || LEYOLO_ISA=$$isa $(python) -m pytest -q tests/ops tests/runtime tests/predict/test_model.py || exit 1; \
	done
	$(python) -m pytest -q --ignore=tests/cuda # those need the build of `make cuda-check`, which runs them

$(VENV)/.peers: $(VENV)/.created $(sources)
	$(python) -m pip install -q -c constraints.txt $(gpu_kernels) '.[torch,bench]'
	touch $@

# Every operator: kept for comparison between commits, then beside its peers. Some minutes; an idle machine, please.
bench: $(VENV)/.peers
	@mkdir -p build
	$(python) -m pytest -q benchmarks --benchmark-storage=file://build/benchmarks --benchmark-autosave \
	  --benchmark-max-time=0.1 --benchmark-min-rounds=3 --benchmark-warmup=on --benchmark-warmup-iterations=2 \
	  --benchmark-columns=median,iqr,rounds --benchmark-group-by=group
	$(VENV)/bin/leyolo benchmark ops --json build/bench-ops.json --plot build/roofline.png

lint: $(VENV)/.installed
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	git ls-files 'csrc/**' 'tests/cpp/**' | grep -E '\.(h|cpp|cu|cuh)$$' | xargs $(VENV)/bin/clang-format --dry-run -Werror

format: $(VENV)/.installed
	$(python) -m ruff check --fix -q .
	$(python) -m ruff format -q .
	git ls-files 'csrc/**' 'tests/cpp/**' | grep -E '\.(h|cpp|cu|cuh)$$' | xargs $(VENV)/bin/clang-format -i

clean:
	rm -rf build $(VENV)
