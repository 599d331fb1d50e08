#include "ops/batch_norm_act/batch_norm_act.h"

#include "bindings/numpy/common.h"
#include "core/activation_math.h"

namespace leyolo {

static py::object numpy_batch_norm_act(py::array const& x, std::optional<py::array> const& weight,
                                       std::optional<py::array> const& bias, std::optional<py::array> const& mean,
                                       std::optional<py::array> const& variance, double eps,
                                       std::string const& activation, std::optional<py::array> const& out) {
  View const xv = view(x, "batch_norm_act: x"), w = view(weight, "batch_norm_act: weight"),
             b = view(bias, "batch_norm_act: bias");
  check(xv.rank >= 2, "batch_norm_act: x must be [..., C], got ", xv);
  check(mean.has_value() == variance.has_value(), "batch_norm_act: mean and variance must be given both or not at all");
  bool const training = !mean;
  BatchNormAct const params{eps, activation_from(activation, "batch_norm_act"), training};
  DType const dtype = xv.dtype == DType::f64 ? DType::f64 : DType::f32;
  py::array const m = mean ? *mean : empty({xv.shape[xv.rank - 1]}, dtype),
                  v = variance ? *variance : empty({xv.shape[xv.rank - 1]}, dtype);
  View const mv = view(m, "batch_norm_act: mean"), vv = view(v, "batch_norm_act: variance");
  py::array const y = output(out, {xv.shape, xv.shape + xv.rank}, xv.dtype, "batch_norm_act: out");
  View const yv = view(y, "batch_norm_act: out"), scratch = workspace(batch_norm_act_workspace(xv));
  {
    py::gil_scoped_release nogil;
    batch_norm_act(xv, w, b, mv, vv, yv, scratch, params, numpy_context());
  }
  if (training) return py::make_tuple(y, m, v);
  return y;
}

LEYOLO_NUMPY_OP(batch_norm_act) {
  m.def("batch_norm_act", &numpy_batch_norm_act, py::arg("x"), py::arg("weight") = py::none(),
        py::arg("bias") = py::none(), py::arg("mean") = py::none(), py::arg("variance") = py::none(), py::kw_only(),
        py::arg("eps") = 1e-5, py::arg("activation") = "none", py::arg("out") = py::none(),
        "activation((x - mean) / sqrt(variance + eps) * weight + bias): x [..., C] -> as x. Without mean and variance "
        "those of all but the last axis are taken, and come back: (y, mean, variance), the variance with bias.");
}

}  // namespace leyolo
