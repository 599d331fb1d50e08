// An owning array for tests; heap memory of exactly the right size, so that AddressSanitizer sees one element too far.
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <random>

#include "core/pool.h"
#include "core/view.h"

struct Array {
  std::unique_ptr<char[]> memory;
  leyolo::View view;

  Array(leyolo::DType dtype, std::initializer_list<int64_t> shape) {
    view.dtype = dtype;
    view.rank = int(shape.size());
    int d = 0;
    for (int64_t n : shape) view.shape[d++] = n;
    memory.reset(new char[size_t(view.numel() * leyolo::size_of(dtype))]());
    view.data = memory.get();
  }
  template <class T = float>
  T* data() {
    return view.as<T>();
  }
};

inline Array random_array(std::initializer_list<int64_t> shape, float low, float high, unsigned seed = 0) {
  Array a(leyolo::DType::f32, shape);
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> draw(low, high);
  for (int64_t i = 0; i < a.view.numel(); ++i) a.data()[i] = draw(engine);
  return a;
}

// The largest difference of float32 arrays, over the largest value of `a` (1 at least).
inline double difference(Array& a, Array& b) {
  double most = 0, scale = 1;
  for (int64_t i = 0; i < a.view.numel(); ++i) {
    most = std::max(most, std::fabs(double(a.data()[i]) - b.data()[i]));
    scale = std::max(scale, std::fabs(double(a.data()[i])));
  }
  return most / scale;
}

inline leyolo::Context test_context() {
  leyolo::Context context;
  context.parallel = leyolo::own_pool;
  context.threads = leyolo::num_threads();
  return context;
}
