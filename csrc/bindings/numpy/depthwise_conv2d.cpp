#include "ops/depthwise_conv2d/depthwise_conv2d.h"

#include <array>
#include <variant>

#include "bindings/numpy/common.h"
#include "core/activation_math.h"
#include "ops/depthwise_conv2d/depthwise_bf16.h"

namespace leyolo {

using Pair = std::variant<int64_t, std::array<int64_t, 2>>;

static void set(int64_t (&to)[2], Pair const& from) {
  if (auto const* one = std::get_if<int64_t>(&from))
    to[0] = to[1] = *one;
  else
    std::copy_n(std::get<1>(from).begin(), 2, to);
}

static py::array numpy_depthwise_pack(py::array const& weight, std::optional<py::array> const& bias) {
  View const w = view(weight, "depthwise_conv2d: weight"), b = view(bias, "depthwise_conv2d: bias");
  check(w.rank == 4, "depthwise_conv2d: weight must be [C, 1, kh, kw], got ", w);
  check(!b || (b.rank == 1 && b.shape[0] == w.shape[0] && b.dtype == w.dtype),
        "depthwise_conv2d: bias must be [C] in the dtype of weight ", w, ", got ", b);
  py::array const packed = empty({depthwise_packed_size(w.shape[0], w.shape[2], w.shape[3])}, DType::f32);
  depthwise_pack(w, b, view(packed, "depthwise_conv2d: packed"));
  return packed;
}

static py::array numpy_depthwise_bf16_pack(py::array const& weight, std::optional<py::array> const& bias,
                                           std::string const& activation) {
  View const w = view(weight, "depthwise_conv2d: weight"), b = view(bias, "depthwise_conv2d: bias");
  check(w.rank == 4, "depthwise_conv2d: weight must be [C, 1, k, k], got ", w);
  py::array const packed = empty({depthwise_bf16_packed_size(w.shape[0], w.shape[2])}, DType::i32);
  depthwise_bf16_pack(w, b, activation_from(activation, "depthwise_conv2d"), view(packed, "depthwise_conv2d: packed"));
  return packed;
}

static py::array numpy_depthwise_conv2d(py::array const& x, py::array const& weight,
                                        std::optional<py::array> const& bias, Pair const& stride, Pair const& padding,
                                        Pair const& dilation, std::string const& activation,
                                        std::optional<py::array> const& out) {
  View const xv = view(x, "depthwise_conv2d: x"), w = view(weight, "depthwise_conv2d: weight"),
             b = view(bias, "depthwise_conv2d: bias");
  Depthwise params;
  set(params.stride, stride), set(params.padding, padding), set(params.dilation, dilation);
  params.activation = activation_from(activation, "depthwise_conv2d");
  check(xv.rank == 4, "depthwise_conv2d: x must be [N, H, W, C], got ", xv);
  check(w.rank == 4, "depthwise_conv2d: weight must be [C, 1, kh, kw], got ", w);
  int64_t size[2];
  for (int d : {0, 1}) {
    check_window("depthwise_conv2d", w.shape[2 + d], params.stride[d], params.padding[d], params.dilation[d]);
    size[d] =
        conv_output_size(xv.shape[1 + d], w.shape[2 + d], params.stride[d], params.padding[d], params.dilation[d]);
  }
  py::array const y = output(out, {xv.shape[0], size[0], size[1], xv.shape[3]}, xv.dtype, "depthwise_conv2d: out");
  View const yv = view(y, "depthwise_conv2d: out");
  View const scratch = workspace(depthwise_conv2d_workspace(xv, w, yv));
  {
    py::gil_scoped_release nogil;
    depthwise_conv2d(xv, w, b, yv, scratch, params, numpy_context());
  }
  return y;
}

LEYOLO_NUMPY_OP(depthwise_conv2d) {
  m.def("depthwise_strip", &depthwise_strip,
        "Output pixels that lie in registers at the same time on this machine, one vector of channels each.");
  m.def("depthwise_pack", &numpy_depthwise_pack, py::arg("weight"), py::arg("bias") = py::none(),
        "Weight [C, 1, kh, kw] and bias [C] in the order of this machine's kernels, for `forward`.");
  m.def("depthwise_bf16_pack", &numpy_depthwise_bf16_pack, py::arg("weight"), py::arg("bias") = py::none(),
        py::kw_only(), py::arg("activation") = "none",
        "Weight float32 [C, 1, k, k] and bias float32 [C] for the bfloat16 steps of `forward`, int32; the activation "
        "is that of the step.");
  m.def("depthwise_conv2d", &numpy_depthwise_conv2d, py::arg("x"), py::arg("weight"), py::arg("bias") = py::none(),
        py::kw_only(), py::arg("stride") = 1, py::arg("padding") = 0, py::arg("dilation") = 1,
        py::arg("activation") = "none", py::arg("out") = py::none(),
        "activation(depthwise_conv(x, weight) + bias): x [N, H, W, C] -> [N, H', W', C].");
}

}  // namespace leyolo
