#include "core/limits.h"

#include "bindings/numpy/common.h"
#include "core/cache.h"
#include "core/pool.h"

namespace leyolo {

static py::dict numpy_machine_limits(double seconds) {
  MachineLimits limits;
  {
    py::gil_scoped_release nogil;
    limits = machine_limits(num_threads(), seconds, numpy_context());
  }
  py::dict found;
  found["flops"] = limits.flops;
  py::list levels;
  for (Bandwidth const& level : limits.levels)
    levels.append(py::make_tuple(level.level, level.working_set, level.read, level.copy));
  found["levels"] = levels;
  return found;
}

static py::dict numpy_cache_sizes() {
  CacheSizes const& sizes = cache_sizes();
  py::dict found;
  found["l1d"] = sizes.l1d;
  found["l2"] = sizes.l2;
  found["l3"] = sizes.l3;
  found["l3_cores"] = sizes.l3_cores;
  return found;
}

LEYOLO_NUMPY_OP(limits) {
  m.def("cache_sizes", &numpy_cache_sizes,
        "Bytes of l1d and l2 (one core's part) and l3 (0: none is shown), and the l3_cores that share the l3.");
  m.def("machine_limits", &numpy_machine_limits, py::arg("seconds") = 0.5,
        "flops per second on num_threads() threads, and levels: (name, working set per thread in bytes, bytes per "
        "second read, copied). leyolo.bench.limits.measure is the friendlier form.");
}

}  // namespace leyolo
