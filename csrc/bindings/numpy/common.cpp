#include "bindings/numpy/common.h"

#include <memory>

#include "core/pool.h"

namespace leyolo {

namespace {

#ifdef LEYOLO_CUDA_SHIM  // tests: numpy calls run the CUDA twins, too
constexpr Device kDevice = Device::cuda;
#else
constexpr Device kDevice = Device::cpu;
#endif

DType dtype_of(py::array const& a, char const* what) {
  py::dtype const t = a.dtype();
  switch (t.kind()) {
    case 'f':
      if (t.itemsize() == 4) return DType::f32;
      if (t.itemsize() == 8) return DType::f64;
      if (t.itemsize() == 2) return DType::f16;
      break;
    case 'i':
      if (t.itemsize() == 8) return DType::i64;
      if (t.itemsize() == 4) return DType::i32;
      break;
    case 'u':
      if (t.itemsize() == 1) return DType::u8;
      break;
    case 'b': return DType::boolean;
  }
  fail(what, ": dtype ", std::string(py::str(t)), " is not supported");
}

char const* numpy_name(DType t) {
  check(t != DType::bf16, "numpy has no bfloat16");
  return name_of(t);
}

}  // namespace

View view(py::array const& a, char const* what) {
  View v;
  v.data = const_cast<void*>(a.data());
  v.dtype = dtype_of(a, what);
  v.device = kDevice;
  v.rank = int(a.ndim());
  check(v.rank <= View::kMaxRank, what, ": at most ", View::kMaxRank, " dimensions, got ", v.rank);
  for (int d = 0; d < v.rank; ++d) v.shape[d] = a.shape(d);
  check(a.flags() & py::array::c_style, what, " must be C-contiguous (numpy.ascontiguousarray), got strides for ", v);
  check(a.dtype().byteorder() != '>', what, " must be in native byte order");
  return v;
}

View view(std::optional<py::array> const& a, char const* what) { return a ? view(*a, what) : View(); }

py::array empty(std::vector<int64_t> const& shape, DType dtype) {
  return py::array(py::dtype(numpy_name(dtype)), std::vector<py::ssize_t>(shape.begin(), shape.end()));
}

py::array output(std::optional<py::array> const& out, std::vector<int64_t> const& shape, DType dtype,
                 char const* what) {
  if (!out) return empty(shape, dtype);
  View const v = view(*out, what);
  bool same = v.dtype == dtype && v.rank == int(shape.size()) && out->writeable();
  for (int d = 0; same && d < v.rank; ++d) same = v.shape[d] == shape[d];
  if (!same) {
    View expected;
    expected.dtype = dtype;
    expected.rank = int(shape.size());
    for (int d = 0; d < expected.rank; ++d) expected.shape[d] = shape[d];
    fail(what, " must be writeable ", expected, ", got ", v);
  }
  return *out;
}

View workspace(int64_t size, DType dtype) {
  constexpr int64_t kKept = 16 << 20;  // what is larger goes with the next call
  thread_local std::unique_ptr<char[]> memory;
  thread_local int64_t held = 0;
  int64_t const bytes = size * size_of(dtype);
  if (bytes > held || (held > kKept && bytes <= kKept)) {
    memory.reset();
    held = 0;
    memory.reset(new char[size_t(bytes)]);
    held = bytes;
  }
  View v;
  v.data = memory.get();
  v.dtype = dtype;
  v.device = kDevice;
  v.rank = 1;
  v.shape[0] = size;
  return v;
}

Context numpy_context() {
  Context context;
  context.parallel = own_pool;
  context.threads = num_threads();
  return context;
}

std::vector<void (*)(py::module_&)>& Binder::all() {
  static std::vector<void (*)(py::module_&)> list;
  return list;
}

}  // namespace leyolo
