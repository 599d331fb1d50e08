#include "ops/letterbox/letterbox.h"

#include <array>
#include <variant>

#include "bindings/numpy/common.h"

namespace leyolo {

using Size = std::variant<int64_t, std::array<int64_t, 2>>;

static DType dtype_named(std::string const& name) {
  for (DType t : {DType::f32, DType::f16, DType::u8})
    if (name == name_of(t)) return t;
  fail("letterbox: dtype must be float32, float16 or uint8, got '", name, "'");
}

static py::tuple numpy_letterbox(py::array const& image, Size const& size, int64_t stride, bool rect, bool scale_up,
                                 int64_t value, bool swap_rb, std::string const& dtype,
                                 std::optional<py::array> const& out) {
  View v = view(image, "letterbox: image");
  check((v.rank == 3 || v.rank == 4) && v.shape[v.rank - 1] == 3 && v.dtype == DType::u8,
        "letterbox: image must be uint8 [H, W, 3] or [B, H, W, 3], got ", v);
  if (v.rank == 3) v = {v.data, v.dtype, v.device, 4, {1, v.shape[0], v.shape[1], 3}};
  DType const type = dtype_named(dtype);
  std::array<int64_t, 2> const target = std::holds_alternative<int64_t>(size)
                                            ? std::array<int64_t, 2>{std::get<0>(size), std::get<0>(size)}
                                            : std::get<1>(size);
  Letterbox const g = letterbox_geometry(v.shape[1], v.shape[2], target[0], target[1], stride, rect, scale_up);
  py::array const x = output(out, {v.shape[0], g.height, g.width, 3}, type, "letterbox: out");
  View const xv = view(x, "letterbox: out");
  View const scratch = workspace(letterbox_workspace(xv, g));
  {
    py::gil_scoped_release nogil;
    letterbox(v, xv, scratch, g, value, swap_rb, numpy_context());
  }
  return py::make_tuple(x, g.scale, py::make_tuple(g.left, g.top));
}

LEYOLO_NUMPY_OP(letterbox) {
  m.def("letterbox", &numpy_letterbox, py::arg("image"), py::arg("size"), py::kw_only(), py::arg("stride") = 32,
        py::arg("rect") = false, py::arg("scale_up") = true, py::arg("value") = 114, py::arg("swap_rb") = false,
        py::arg("dtype") = "float32", py::arg("out") = py::none(),
        "uint8 [H, W, 3] or [B, H, W, 3] -> x [B, h, w, 3] in 0..1 (as uint8 in 0..255), scale, (left, top).");
}

}  // namespace leyolo
