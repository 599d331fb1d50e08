#include "ops/conv2d/conv2d.h"

#include "bindings/numpy/common.h"
#include "core/activation_math.h"
#include "ops/conv2d/conv2d_bf16.h"

namespace leyolo {

static py::array numpy_conv2d_pack(py::array const& weight, std::optional<py::array> const& bias) {
  View w = view(weight, "conv2d: weight"), b = view(bias, "conv2d: bias");
  check(w.rank == 4, "conv2d: weight must be [O, C, k, k], got ", w);
  py::array const packed = empty({conv2d_packed_size(w.shape[0], w.shape[1], w.shape[2])}, DType::f32);
  View to = view(packed, "conv2d: packed");
  w.device = b.device = to.device = Device::cpu;  // in the shim, too: it is for the CPU's kernels
  conv2d_pack(w, b, to);
  return packed;
}

static py::array numpy_conv2d_bf16_pack(py::array const& weight, std::optional<py::array> const& bias,
                                        std::string const& activation) {
  View const w = view(weight, "conv2d: weight"), b = view(bias, "conv2d: bias");
  check(w.rank == 4, "conv2d: weight must be [O, C, k, k], got ", w);
  py::array const packed = empty({conv2d_bf16_packed_size(w.shape[0], w.shape[1], w.shape[2])}, DType::i32);
  conv2d_bf16_pack(w, b, activation_from(activation, "conv2d"), view(packed, "conv2d: packed"));
  return packed;
}

static py::array numpy_conv2d(py::array const& x, py::array const& weight, std::optional<py::array> const& bias,
                              std::optional<py::array> const& residual, int64_t stride, int64_t padding,
                              std::string const& activation, std::optional<py::array> const& out) {
  View const xv = view(x, "conv2d: x"), w = view(weight, "conv2d: weight"), r = view(residual, "conv2d: residual");
  Conv2d const params{stride, padding, activation_from(activation, "conv2d")};
  check(xv.rank == 4, "conv2d: x must be [N, H, W, C], got ", xv);
  check(w.rank == 4 && w.shape[1] == xv.shape[3] && w.numel() > 0, "conv2d: weight must be [O, ", xv.shape[3],
        ", k, k], got ", w);
  check_window("conv2d", w.shape[2], stride, padding);
  check(w.dtype == xv.dtype, "conv2d: weight must have the dtype of x ", xv, ", got ", w);
  int64_t const k = w.shape[2];
  py::array const y = output(out,
                             {xv.shape[0], conv_output_size(xv.shape[1], k, stride, padding),
                              conv_output_size(xv.shape[2], k, stride, padding), w.shape[0]},
                             xv.dtype, "conv2d: out");
  View const yv = view(y, "conv2d: out");
  py::array const packed = empty({conv2d_packed_size(w)}, DType::f32);
  View const scratch = workspace(conv2d_workspace(xv, yv, r), DType::f32);
  View const b = view(bias, "conv2d: bias"), pv = view(packed, "conv2d: packed");
  {
    py::gil_scoped_release nogil;
    conv2d_pack(w, b, pv);
    conv2d(xv, pv, r, yv, scratch, k, params, numpy_context());
  }
  return y;
}

static std::vector<std::pair<int, int>> numpy_conv2d_tiles(int64_t out_channels) {
  check(out_channels > 0 && out_channels <= 1 << 20, "conv2d: out_channels must be between 1 and ", 1 << 20, ", got ",
        out_channels);
  std::vector<std::pair<int, int>> tiles;
  int64_t vector = 0;
  for (Conv2dTile t = conv2d_tile(out_channels, 0); t.vectors > 0; t = conv2d_tile(out_channels, vector)) {
    tiles.emplace_back(t.pixels, t.vectors);
    vector += t.vectors;
  }
  return tiles;
}

LEYOLO_NUMPY_OP(conv2d) {
  m.def("conv2d_tiles", &numpy_conv2d_tiles, py::arg("out_channels"),
        "The register tiles that the output channels are cut into on this machine: (pixels, vectors) of each.");
  m.def("conv2d_pack", &numpy_conv2d_pack, py::arg("weight"), py::arg("bias") = py::none(),
        "Weight [O, C, k, k] and bias [O] in the order of this machine's kernels, for `forward`.");
  m.def("conv2d_bf16_pack", &numpy_conv2d_bf16_pack, py::arg("weight"), py::arg("bias") = py::none(), py::kw_only(),
        py::arg("activation") = "none",
        "Weight float32 [O, C, k, k] and bias float32 [O] for the bfloat16 steps of `forward`, int32; the activation "
        "is that of the step.");
  m.def("conv2d", &numpy_conv2d, py::arg("x"), py::arg("weight"), py::arg("bias") = py::none(),
        py::arg("residual") = py::none(), py::kw_only(), py::arg("stride") = 1, py::arg("padding") = 0,
        py::arg("activation") = "none", py::arg("out") = py::none(),
        "activation(conv(x, weight) + bias) + residual: x [N, H, W, C] -> [N, H', W', O].");
}

}  // namespace leyolo
