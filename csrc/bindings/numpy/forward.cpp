#include "ops/forward/forward.h"

#include "bindings/numpy/common.h"
#include "ops/forward/forward_head.h"

namespace leyolo {

// numpy has no bfloat16: its bits in uint16 stand for it.
static View arena_view(py::array const& arena) {
  bool const bits = arena.dtype().kind() == 'u' && arena.itemsize() == 2;
  View v = view(bits ? py::array(arena.attr("view")("float16")) : arena, "forward: arena");
  if (bits) v.dtype = DType::bf16;
  return v;
}

static py::array numpy_forward(py::array const& x, py::array const& program, std::vector<py::array> const& weights,
                               py::array const& arena, int64_t arena_size, std::vector<int64_t> const& shape,
                               std::optional<py::array> const& out, std::optional<py::array> const& times) {
  View const xv = view(x, "forward: x"), pv = view(program, "forward: program"), av = arena_view(arena);
  check(xv.rank == 4, "forward: x must be [N, H, W, C], got ", xv);
  check(arena.writeable(), "forward: the arena must be writeable");
  std::vector<View> views;
  for (py::array const& w : weights) views.push_back(view(w, "forward: weights"));
  std::vector<int64_t> y_shape = {xv.shape[0]};
  y_shape.insert(y_shape.end(), shape.begin(), shape.end());
  py::array const y = output(out, y_shape, DType::f32, "forward: out");
  View const yv = view(y, "forward: out");
  check(!times || times->writeable(), "forward: times must be writeable");
  View const tv = times ? view(*times, "forward: times") : View{};
  {
    py::gil_scoped_release nogil;
    forward(xv, pv, views.data(), int64_t(views.size()), av, arena_size, yv, tv, numpy_context());
  }
  return y;
}

LEYOLO_NUMPY_OP(forward) {
  m.def("head_fits", &head_fits, py::arg("in_channels"), py::arg("middle_channels"), py::arg("out_channels"),
        py::arg("shared_bytes"),
        "Whether one CUDA kernel can run a branch of the head, in float16 or bfloat16, with as much shared memory.");
  m.def("forward", &numpy_forward, py::arg("x"), py::arg("program"), py::arg("weights"), py::arg("arena"),
        py::arg("arena_size"), py::arg("shape"), py::arg("out") = py::none(), py::arg("times") = py::none(),
        "Runs a program (leyolo.runtime) on x [N, H, W, C], float32 or (where the program begins with unit) uint8: "
        "float32 [N, *shape]. The arena is float32, or uint16 for maps in bfloat16. An arena of several times "
        "arena_size lets as many images run side by side. times float64 "
        "[steps]: the seconds of every step are added to it (of one image; a chain counts at its first row).");
}

}  // namespace leyolo
