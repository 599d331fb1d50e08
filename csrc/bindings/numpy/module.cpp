#include "bindings/numpy/common.h"
#include "core/cache.h"
#include "core/isa.h"
#include "core/pool.h"

#ifndef LEYOLO_CUDA_ARCHITECTURES
#define LEYOLO_CUDA_ARCHITECTURES ""
#endif

namespace leyolo {

namespace {

py::dict build_info() {
  py::dict info;
  info["version"] = LEYOLO_VERSION;
  info["compiler"] = LEYOLO_COMPILER;
  info["build_type"] = LEYOLO_BUILD_TYPE;
  info["cuda"] = std::string(LEYOLO_CUDA_VERSION);  // "" without CUDA kernels
  info["cuda_architectures"] = std::string(LEYOLO_CUDA_ARCHITECTURES);
  info["torch_ops"] = bool(LEYOLO_HAS_TORCH_OPS);
#ifdef LEYOLO_X86
  info["isas"] = std::vector<std::string>{"baseline", "avx2", "avx512"};
#else
  info["isas"] = std::vector<std::string>{"baseline"};
#endif
  return info;
}

py::dict cpu_features() {
  py::dict features;
  features["isa"] = name_of(isa());
  features["bf16_dot"] = has_bf16_dot();  // the kernels of dtype "bf16" run here
  features["threads"] = num_threads();
  CacheSizes const& cache = cache_sizes();
  features["l1_bytes"] = cache.l1d;
  features["l2_bytes"] = cache.l2;
  features["l3_bytes"] = cache.l3;
  features["l3_cores"] = cache.l3_cores;
#ifdef LEYOLO_X86
  features["avx2"] = bool(__builtin_cpu_supports("avx2"));
  features["fma"] = bool(__builtin_cpu_supports("fma"));
  features["avx512f"] = bool(__builtin_cpu_supports("avx512f"));
  features["avx512bf16"] = bool(__builtin_cpu_supports("avx512bf16"));
  features["avx512vnni"] = bool(__builtin_cpu_supports("avx512vnni"));
#elif defined(__aarch64__)
  features["neon"] = true;
#endif
  return features;
}

}  // namespace

}  // namespace leyolo

PYBIND11_MODULE(_C, m) {
  m.doc() = "leyolo's kernels on numpy arrays (NHWC where images or feature maps); torch is not needed.";
  m.def("build_info", &leyolo::build_info,
        "What this build holds: version, compiler, CUDA version and architectures, ISAs.");
  m.def("cpu_features", &leyolo::cpu_features,
        "What this machine has: the ISA in use, threads, instruction sets, bytes of its caches.");
  m.def("num_threads", &leyolo::num_threads, "Threads that numpy calls use.");
  m.def("set_num_threads", &leyolo::set_num_threads, leyolo::py::arg("n"), "Sets the threads that numpy calls use.");
  for (auto bind : leyolo::Binder::all()) bind(m);
}
