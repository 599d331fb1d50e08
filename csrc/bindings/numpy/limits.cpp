#include "core/limits.h"

#include "bindings/numpy/common.h"
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

LEYOLO_NUMPY_OP(limits) {
  m.def("machine_limits", &numpy_machine_limits, py::arg("seconds") = 0.5,
        "flops per second on num_threads() threads, and levels: (name, working set per thread in bytes, bytes per "
        "second read, copied). leyolo.bench.limits.measure is the friendlier form.");
}

}  // namespace leyolo
