#include "ops/inverted_bottleneck/inverted_bottleneck.h"

#include "bindings/numpy/common.h"
#include "core/activation_math.h"
#include "ops/conv2d/conv2d.h"
#include "ops/inverted_bottleneck/inverted_bottleneck_cuda.h"

namespace leyolo {

using Optional = std::optional<py::array>;

static py::array numpy_inverted_bottleneck(py::array const& x, Optional const& expand_weight,
                                           Optional const& expand_bias, py::array const& depthwise_weight,
                                           Optional const& depthwise_bias, py::array const& project_weight,
                                           Optional const& project_bias, int64_t stride, std::string const& activation,
                                           bool residual, double share, Optional const& out) {
  View const xv = view(x, "inverted_bottleneck: x"), ew = view(expand_weight, "inverted_bottleneck: expand_weight"),
             eb = view(expand_bias, "inverted_bottleneck: expand_bias"),
             dw = view(depthwise_weight, "inverted_bottleneck: depthwise_weight"),
             db = view(depthwise_bias, "inverted_bottleneck: depthwise_bias"),
             pw = view(project_weight, "inverted_bottleneck: project_weight"),
             pb = view(project_bias, "inverted_bottleneck: project_bias");
  InvertedBottleneck const params{stride, activation_from(activation, "inverted_bottleneck"), residual,
                                  StreamModel{cache_sizes().l2, share}};
  check(xv.rank == 4 && dw.rank == 4 && pw.rank == 4,
        "inverted_bottleneck: x must be [N, H, W, C], depthwise_weight [M, 1, k, k], project_weight [O, M, 1, 1], got ",
        xv, ", ", dw, ", ", pw);
  check_window("inverted_bottleneck", dw.shape[2], stride, dw.shape[2] / 2);
  int64_t const k = dw.shape[2];
  py::array const y = output(out,
                             {xv.shape[0], conv_output_size(xv.shape[1], k, stride, k / 2),
                              conv_output_size(xv.shape[2], k, stride, k / 2), pw.shape[0]},
                             xv.dtype, "inverted_bottleneck: out");
  View const yv = view(y, "inverted_bottleneck: out");
  Context const context = numpy_context();
  View const scratch = workspace(inverted_bottleneck_workspace(xv, ew, dw, pw, yv, params, context));
  {
    py::gil_scoped_release nogil;
    inverted_bottleneck(xv, ew, eb, dw, db, pw, pb, yv, scratch, params, context);
  }
  return y;
}

static bool numpy_bottleneck_fits(int in_channels, int middle_channels, int out_channels, int kernel, int stride,
                                  bool expands, int64_t shared_bytes, int stem_kernel, int stem_channels) {
  BottleneckShape const shape{1, 1, 1, in_channels, middle_channels, out_channels, kernel, stride, expands};
  return bottleneck_tile(shape, shared_bytes, 1).warps > 0 &&
         (stem_kernel == 0 || bottleneck_stem_fits(shape, stem_kernel, stem_channels));
}

LEYOLO_NUMPY_OP(inverted_bottleneck) {
  m.def("bottleneck_fits", &numpy_bottleneck_fits, py::arg("in_channels"), py::arg("middle_channels"),
        py::arg("out_channels"), py::arg("kernel"), py::arg("stride"), py::arg("expands"), py::arg("shared_bytes"),
        py::arg("stem_kernel") = 0, py::arg("stem_channels") = 0,
        "Whether one CUDA kernel can run the whole block, in float16 or bfloat16, with as much shared memory; with a "
        "convolution of an image in front where stem_kernel is not 0.");
  m.def("inverted_bottleneck", &numpy_inverted_bottleneck, py::arg("x"), py::arg("expand_weight").none(true),
        py::arg("expand_bias").none(true), py::arg("depthwise_weight"), py::arg("depthwise_bias").none(true),
        py::arg("project_weight"), py::arg("project_bias").none(true), py::kw_only(), py::arg("stride") = 1,
        py::arg("activation") = "silu", py::arg("residual") = false, py::arg("share") = StreamModel().share,
        py::arg("out") = py::none(),
        "project(act(depthwise(act(expand(x))))) [+ x]: x [N, H, W, C] -> [N, H', W', O]. share of the second-level "
        "cache as in leyolo.runtime.chains.Streaming: 0 makes it run row by row, infinity map by map; same bits.");
}

}  // namespace leyolo
