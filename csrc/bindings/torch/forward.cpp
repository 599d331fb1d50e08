#include "ops/forward/forward.h"

#include "bindings/torch/common.h"

namespace leyolo {

// The arena is the caller's, to be used again: a fresh one would be paid for in page faults at every call.
Tensor torch_forward(Tensor const& x, Tensor const& program, std::vector<Tensor> weights, Tensor arena,
                     int64_t arena_size, std::vector<int64_t> shape) {
  View const xv = view_nhwc(x, "forward: x");
  std::vector<View> views;
  for (Tensor const& w : weights) views.push_back(view(w, "forward: weights"));
  shape.insert(shape.begin(), xv.shape[0]);
  Tensor const y = empty(x, shape, ScalarType::Float);
  forward(xv, view(program, "forward: program"), views.data(), int64_t(views.size()), view(arena, "forward: arena"),
          arena_size, view(y, "forward: y"), View{}, OnDevice(x));
  return y;
}

LEYOLO_TORCH_OP(forward,
                "(Tensor x, Tensor program, Tensor[] weights, Tensor(a!) arena, int arena_size, int[] shape) -> Tensor")

}  // namespace leyolo
