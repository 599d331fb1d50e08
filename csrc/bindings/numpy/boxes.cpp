// Areas and formats of boxes: the counterpart of python/leyolo/ops/boxes.py, in the same order of operations.
#include "bindings/numpy/common.h"
#include "core/cpu.h"
#include "ops/box_iou/box_iou_names.h"

namespace leyolo {

static View boxes_view(py::array const& boxes, char const* op) {
  View const v = view(boxes, op);
  check(v.rank >= 1 && v.shape[v.rank - 1] == 4, op, ": boxes must be [..., 4], got ", v);
  return v;
}

static py::array numpy_box_area(py::array const& boxes, std::string const& fmt) {
  View const v = boxes_view(boxes, "box_area");
  bool const corners = box_format(fmt) == BoxFormat::xyxy;
  py::array const out = empty({v.shape, v.shape + v.rank - 1}, v.dtype == DType::f64 ? DType::f64 : DType::f32);
  void* const data = view(out, "box_area: out").data;
  for_float(v.dtype, "box_area", [&](auto zero) {
    using T = decltype(zero);
    using A = accumulator_t<T>;
    T const* b = v.as<T>();
    for (int64_t i = 0; i < v.numel() / 4; ++i, b += 4)
      static_cast<A*>(data)[i] = corners ? (A(b[2]) - A(b[0])) * (A(b[3]) - A(b[1])) : A(b[2]) * A(b[3]);
  });
  return out;
}

static py::array numpy_box_convert(py::array const& boxes, std::string const& in_fmt, std::string const& out_fmt) {
  View const v = boxes_view(boxes, "box_convert");
  BoxFormat const from = box_format(in_fmt), to = box_format(out_fmt);
  py::array const out = empty({v.shape, v.shape + v.rank}, v.dtype);
  void* const data = view(out, "box_convert: out").data;
  for_float(v.dtype, "box_convert", [&](auto zero) {
    using T = decltype(zero);
    using A = accumulator_t<T>;
    T const* b = v.as<T>();
    T* o = static_cast<T*>(data);
    for (int64_t i = 0; i < v.numel() / 4; ++i, b += 4, o += 4)
      for (int d : {0, 1}) {
        A const first = A(b[d]), second = A(b[2 + d]);
        if (from == to) {
          o[d] = b[d], o[2 + d] = b[2 + d];
          continue;
        }
        A const low = from == BoxFormat::cxcywh ? first - A(0.5) * second : first;
        A const high = from == BoxFormat::xyxy   ? second
                       : from == BoxFormat::xywh ? first + second
                                                 : first + A(0.5) * second;
        o[d] = T(to == BoxFormat::cxcywh ? (low + high) / 2 : low);
        o[2 + d] = T(to == BoxFormat::xyxy ? high : high - low);
      }
  });
  return out;
}

LEYOLO_NUMPY_OP(boxes) {
  m.def("box_area", &numpy_box_area, py::arg("boxes"), py::arg("fmt") = "xyxy", "Areas of boxes [..., 4]: [...].");
  m.def("box_convert", &numpy_box_convert, py::arg("boxes"), py::arg("in_fmt"), py::arg("out_fmt"),
        "Boxes [..., 4] from one of xyxy, xywh, cxcywh to another.");
}

}  // namespace leyolo
