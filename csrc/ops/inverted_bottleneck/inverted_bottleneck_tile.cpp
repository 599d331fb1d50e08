#include <algorithm>

#include "ops/inverted_bottleneck/inverted_bottleneck_cuda.h"

namespace leyolo {

namespace {

int64_t up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

}  // namespace

int64_t bottleneck_shared(BottleneckShape const& s, int warps, int rows, int columns) {
  int64_t const pixels = ((rows - 1) * s.stride + s.kernel) * ((columns - 1) * s.stride + s.kernel);
  int64_t const x_row = up(s.in_channels, 16) + 8, groups = up(s.out_channels, 32);
  int64_t const stage = (s.expands ? 2 * 32 * x_row : 0) + 2 * groups * 40 + 2 * 32 * s.kernel * s.kernel;
  return 2 * stage + (s.expands ? up(pixels, 16) * (2 * x_row + 1) : 0) + up(pixels, 16) * 64 + warps * 16 * 80;
}

bool bottleneck_stem_fits(BottleneckShape const& s, int kernel, int channels) {
  // Of the smallest tile, 2 x 4: rows of 32 values for each pixel, and of 40 for each of 32 channels.
  int const pixels = (s.stride + s.kernel) * (3 * s.stride + s.kernel);
  return s.expands && s.in_channels <= 32 && s.out_channels <= 32 && kernel > 0 && channels > 0 &&
         kernel * kernel * channels <= 32 && 32 * pixels >= 32 * 40;
}

BottleneckTile bottleneck_tile(BottleneckShape const& s, int64_t shared, int multiprocessors) {
  bool const taken = (s.kernel == 3 || s.kernel == 5) && (s.stride == 1 || s.stride == 2) && s.in_channels % 8 == 0 &&
                     s.middle_channels % 8 == 0 && s.out_channels % 8 == 0 && s.out_channels <= 128;
  BottleneckTile best{};
  double least = 0;
  if (!taken || s.out_height < 1 || s.out_width < 1) return best;
  for (int warps : {16, 8, 4})
    for (int parts = 1, columns = 0; columns != 4; parts += parts < 5 ? 1 : parts) {
      // The width is cut into parts of whole strips of 4, the height into pieces of whole pairs of rows.
      columns = int(up((s.out_width + parts - 1) / parts, 4));
      if (2 * columns > 16 * warps) continue;
      int64_t const most = 16 * warps / columns / 2 * 2, pieces = (s.out_height + most - 1) / most;
      for (int64_t piece = pieces, last = 0; piece <= pieces + 16; ++piece) {
        // In the end the smallest: what fits must not depend on the size of the map.
        int const rows = piece < pieces + 16 ? int(up((s.out_height + piece - 1) / piece, 2)) : 2;
        if (rows == last || rows * columns > 16 * warps) continue;
        last = rows;
        int64_t const bytes = bottleneck_shared(s, warps, rows, columns);
        if (bytes > shared) continue;
        // Per block in units of a multiprocessor's time for a thousand multiplications: tensor cores at half their rate
        // (their tiles are whole), the SiLU of the expanded map, the depthwise convolution; all blocks that fit share
        // the multiprocessor, and a few warps cannot keep it busy.
        int64_t const inputs = ((rows - 1) * s.stride + s.kernel) * ((columns - 1) * s.stride + s.kernel);
        double const expand = s.expands ? inputs * (s.in_channels / 512.0 + 1 / 6.0) : inputs / 16.0;
        double const project = 16.0 * warps * up(s.out_channels, 32) / 512;
        double const filter = double(rows) * columns * (s.kernel * s.kernel * 2.0 / 128 + 1 / 6.0);
        int64_t const together = std::max<int64_t>(
            1, std::min({(shared + 1024) / (bytes + 1024), int64_t(65536 / (128 * 32 * warps)), int64_t(64 / warps)}));
        double const idle = 1 + 6.0 / double(warps * together);
        int64_t const blocks = s.images * ((s.out_height + rows - 1) / rows) * ((s.out_width + columns - 1) / columns);
        double const rounds = std::max(1.0, double((blocks + multiprocessors - 1) / multiprocessors));
        double const time = rounds * (expand + project + filter + 40) * idle;
        if (best.warps == 0 || time < least) best = {warps, rows, columns, bytes}, least = time;
      }
    }
  return best;
}

}  // namespace leyolo
