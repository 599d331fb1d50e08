// Everything that the numpy adapters share. `_C` works without torch and never copies silently: wrong dtypes and
// strides are an error.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "core/check.h"
#include "core/context.h"

namespace leyolo {

namespace py = pybind11;

View view(py::array const& a, char const* what);  // C-contiguous; else an error that names `what`
View view(std::optional<py::array> const& a, char const* what);

py::array empty(std::vector<int64_t> const& shape, DType dtype);

// `out` where the caller brought one (checked), else a new array.
py::array output(std::optional<py::array> const& out, std::vector<int64_t> const& shape, DType dtype, char const* what);

// Scratch memory for one call, kept by the thread for the next one: fresh memory costs page faults.
View workspace(int64_t size, DType dtype = DType::u8);

Context numpy_context();  // our own threads

// Every op's file defines its functions on `_C` in a static of this type: no central list of ops.
struct Binder {
  explicit Binder(void (*bind)(py::module_&)) { all().push_back(bind); }
  static std::vector<void (*)(py::module_&)>& all();
};

}  // namespace leyolo

#define LEYOLO_NUMPY_OP(name)                                \
  static void bind_##name(::leyolo::py::module_& m);         \
  static ::leyolo::Binder const binder_##name(&bind_##name); \
  static void bind_##name(::leyolo::py::module_& m)
