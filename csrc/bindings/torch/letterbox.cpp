#include "ops/letterbox/letterbox.h"

#include "bindings/torch/common.h"

namespace leyolo {

// Pairs are (height, width), `offset` is (top, left).
Tensor torch_letterbox(Tensor const& image, std::vector<int64_t> size, std::vector<int64_t> resized,
                       std::vector<int64_t> offset, int64_t value, bool swap_rb, ScalarType dtype) {
  View const v = view(image, "letterbox: image");
  check(v.rank == 4, "letterbox: image must be uint8 [B, H, W, 3], got ", v);
  Letterbox const g{size.at(0),   size.at(1),  resized.at(0), resized.at(1), 1.0 /* already in the sizes */,
                    offset.at(1), offset.at(0)};
  std::vector<int64_t> const shape = {v.shape[0], 3, g.height, g.width};
  Tensor const x = torch::stable::empty(shape, dtype, std::nullopt, image.device(), std::nullopt,
                                        torch::headeronly::MemoryFormat::ChannelsLast);
  View const xv = view_nhwc(x, "letterbox: x");
  Tensor const workspace = empty(image, {letterbox_workspace(xv, g)}, ScalarType::Byte);
  letterbox(v, xv, view(workspace, "letterbox: workspace"), g, value, swap_rb, OnDevice(image));
  return x;
}

LEYOLO_TORCH_OP(letterbox,
                "(Tensor image, int[2] size, int[2] resized, int[2] offset, int value, bool swap_rb, "
                "ScalarType dtype) -> Tensor")

}  // namespace leyolo
