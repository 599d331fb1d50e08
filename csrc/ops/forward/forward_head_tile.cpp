#include <algorithm>

#include "ops/forward/forward_head.h"

namespace leyolo {

namespace {

constexpr int kWarps = 8;

int64_t up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// As HeadMemory of forward_head.cu has it.
int64_t bytes_of(int rows, int columns, int in_channels, int out_channels) {
  int64_t const x_row = up(in_channels, 16) + 8, pixels = up(int64_t(rows + 4) * (columns + 6), 16);
  int64_t const stage = 32 * x_row + up(out_channels, 32) * 40 + 2 * 9 * 32;
  return 2 * (2 * stage + pixels * (x_row + 32) + int64_t(rows + 2) * (columns + 4) * 32 + 16 * kWarps * 40) + pixels;
}

}  // namespace

HeadTile head_tile(int64_t images, int height, int width, int in_channels, int out_channels, int64_t shared,
                   int multiprocessors) {
  HeadTile best{};
  double least = 0;
  for (int columns = 4; columns <= std::min<int64_t>(up(width, 4), 8 * kWarps); columns += 4)
    for (int rows = 2; rows * columns <= 16 * kWarps; rows += 2) {
      int64_t const bytes = bytes_of(rows, columns, in_channels, out_channels);
      if (bytes > shared) break;
      // Expand, its SiLU, both filters and the projection, as bottleneck_tile counts them.
      double const inputs = (rows + 4) * (columns + 6), middle = (rows + 2) * (columns + 4);
      double const time = inputs * (in_channels / 512.0 + 1 / 6.0) +
                          (middle + rows * columns) * (9 * 2.0 / 128 + 1 / 6.0) +
                          16.0 * kWarps * double(up(out_channels, 32)) / 512 + 40;
      int64_t const blocks = images * ((height + rows - 1) / rows) * ((width + columns - 1) / columns);
      int64_t const together = std::clamp<int64_t>((shared + 1024) / (bytes + 1024), 1, 2) * multiprocessors;
      double const total = std::max(1.0, double(blocks) / double(together)) * time;
      if (best.rows == 0 || total < least) best = {rows, columns, bytes}, least = total;
    }
  return best;
}

bool head_fits(int in_channels, int middle_channels, int out_channels, int64_t shared) {
  return in_channels > 0 && in_channels % 8 == 0 && middle_channels % 8 == 0 && out_channels <= 128 &&
         head_tile(1, 1, 1, in_channels, out_channels, shared, 1).rows > 0;
}

}  // namespace leyolo
