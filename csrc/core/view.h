// A View is a dense, row-major array that somebody else owns: all that a binding and an op share.
#pragma once

#include <cstdint>

namespace leyolo {

enum class DType : uint8_t { f32, f64, f16, bf16, u8, i32, i64, boolean };
enum class Device : uint8_t { cpu, cuda };

struct View {
  static constexpr int kMaxRank = 6;

  void* data = nullptr;
  DType dtype = DType::f32;
  Device device = Device::cpu;
  int rank = -1;  // -1: the argument is absent
  int64_t shape[kMaxRank] = {};
  int8_t index = 0;  // which GPU

  explicit operator bool() const { return rank >= 0; }

  int64_t numel() const {
    int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= shape[d];
    return n;
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// [N, ...] seen as [1, N, ...]; an absent View stays absent.
inline View batch_of_one(View v) {
  if (!v) return v;
  for (int d = v.rank++; d > 0; --d) v.shape[d] = v.shape[d - 1];
  v.shape[0] = 1;
  return v;
}

constexpr int64_t size_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    case DType::f16:
    case DType::bf16: return 2;
    default: return 1;
  }
}

constexpr char const* name_of(DType t) {
  switch (t) {
    case DType::f32: return "float32";
    case DType::f64: return "float64";
    case DType::f16: return "float16";
    case DType::bf16: return "bfloat16";
    case DType::u8: return "uint8";
    case DType::i32: return "int32";
    case DType::i64: return "int64";
    default: return "bool";
  }
}

constexpr char const* name_of(Device d) { return d == Device::cpu ? "cpu" : "cuda"; }

}  // namespace leyolo
