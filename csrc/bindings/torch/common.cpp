#include "bindings/torch/common.h"

#include <dlfcn.h>

namespace leyolo {

namespace {

DType dtype_of(Tensor const& t, char const* what) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return DType::f32;
    case ScalarType::Double: return DType::f64;
    case ScalarType::Half: return DType::f16;
    case ScalarType::BFloat16: return DType::bf16;
    case ScalarType::Byte: return DType::u8;
    case ScalarType::Int: return DType::i32;
    case ScalarType::Long: return DType::i64;
    case ScalarType::Bool: return DType::boolean;
    default: fail(what, ": this dtype is not supported");
  }
}

#ifdef LEYOLO_CUDA_SHIM
Device device_of(Tensor const&) { return Device::cuda; }
#else
Device device_of(Tensor const& t) { return t.is_cuda() ? Device::cuda : Device::cpu; }
#endif

void torch_pool(int64_t begin, int64_t end, int64_t grain, Body body, void* state) {
  TORCH_ERROR_CODE_CHECK(torch_parallel_for(begin, end, grain, body, state));
}

// Looked up in the library that torch has loaded: a link to libtorch_cuda would refuse to load beside a CPU torch.
void* current_stream(int device) {
  using Get = AOTITorchError (*)(int32_t, void**);
  static Get const get = [] {
    void* cuda = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    return cuda ? reinterpret_cast<Get>(dlsym(cuda, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  check(get, "leyolo: this torch has CUDA tensors but no aoti_torch_get_current_cuda_stream; torch >= 2.11 is needed");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(get(device, &stream));
  return stream;
}

}  // namespace

View view(Tensor const& t, char const* what) {
  View v;
  v.data = t.data_ptr();
  v.dtype = dtype_of(t, what);
  v.device = device_of(t);
  if (t.is_cuda()) v.index = int8_t(t.get_device_index());
  v.rank = int(t.dim());
  check(v.rank <= View::kMaxRank, what, ": at most ", View::kMaxRank, " dimensions, got ", v.rank);
  for (int d = 0; d < v.rank; ++d) v.shape[d] = t.size(d);
  check(t.is_contiguous(), what, " must be contiguous, got strides that are not row-major for ", v);
  return v;
}

View view(OptionalTensor const& t, char const* what) { return t ? view(*t, what) : View(); }

bool is_nhwc(Tensor const& t) {
  if (t.dim() != 4) return false;
  int64_t const order[] = {1, 3, 2, 0};  // the fastest first
  int64_t expected = 1;
  for (int64_t const d : order) {
    if (t.size(d) != 1 && t.stride(d) != expected) return false;
    expected *= t.size(d);
  }
  return true;
}

View view_nhwc(Tensor const& t, char const* what) {
  check(t.dim() == 4, what, " must be [N, C, H, W], got ", t.dim(), " dimensions");
  View v;
  v.data = t.data_ptr();
  v.dtype = dtype_of(t, what);
  v.device = device_of(t);
  if (t.is_cuda()) v.index = int8_t(t.get_device_index());
  v.rank = 4;
  int64_t const shape[] = {t.size(0), t.size(2), t.size(3), t.size(1)};
  std::copy_n(shape, 4, v.shape);
  check(is_nhwc(t) || v.numel() == 0, what, " must be in channels_last memory, got other strides for ", v, " (NHWC)");
  return v;
}

Tensor empty(Tensor const& like, std::vector<int64_t> const& shape, ScalarType dtype) {
  return torch::stable::new_empty(like, shape, dtype);
}

Tensor empty_nhwc(Tensor const& like, int64_t n, int64_t c, int64_t h, int64_t w) {
  std::vector<int64_t> const shape = {n, c, h, w};
  return torch::stable::empty(shape, like.scalar_type(), std::nullopt, like.device(), std::nullopt,
                              torch::headeronly::MemoryFormat::ChannelsLast);
}

ScalarType accumulator_of(Tensor const& t) {
  return t.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

OnDevice::OnDevice(Tensor const& t) {
  if (t.is_cuda()) {
    guard_.emplace(t.get_device_index());
    context_.stream = current_stream(t.get_device_index());
  } else {
    context_.parallel = torch_pool;
    context_.threads = int(torch::stable::get_num_threads());
  }
}

}  // namespace leyolo
