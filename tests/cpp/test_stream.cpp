#include <cstring>
#include <vector>

#include "check.h"
#include "core/stream.h"

using namespace leyolo;

namespace {

void serial(int64_t begin, int64_t end, int64_t, Body body, void* state) { body(begin, end, state); }

// One thread per piece, in turn: what a pool of any size may do.
void one_by_one(int64_t begin, int64_t end, int64_t, Body body, void* state) {
  for (int64_t i = begin; i < end; ++i) body(i, i + 1, state);
}

struct Sum {  // every output row is a weighted sum of the input rows under its window
  int64_t height, kernel, stride, padding;
};

void run(void const* layer, char const* x, char* y, int64_t begin, int64_t end) {
  Sum const& s = *static_cast<Sum const*>(layer);
  for (int64_t row = begin; row < end; ++row) {
    int64_t total = 0;
    for (int64_t k = 0; k < s.kernel; ++k) {
      int64_t const from = row * s.stride - s.padding + k;
      int64_t value = 0;
      if (from >= 0 && from < s.height) std::memcpy(&value, x + 8 * from, 8);
      total += (k + 1) * value;
    }
    std::memcpy(y + 8 * row, &total, 8);
  }
}

}  // namespace

TEST(stream_gives_what_whole_layers_give) {
  int64_t const shapes[][3] = {{3, 1, 1}, {1, 1, 0}, {3, 2, 1},
                               {5, 1, 2}, {2, 3, 0}, {1, 2, 0}};  // kernel, stride, padding
  for (int64_t height : {9, 40, 97})
    for (auto const& first : shapes)
      for (auto const& second : shapes)
        for (int64_t band : {1, 3})
          for (int64_t pieces : {1, 2, 5}) {
            std::vector<int64_t> x(height);
            for (int64_t i = 0; i < height; ++i) x[i] = i * i + 1;
            Sum sums[2];
            StreamLayer layers[2];
            std::vector<int64_t> whole = x;
            int64_t in = height;
            for (int i = 0; i < 2; ++i) {
              auto const& s = i ? second : first;
              int64_t const out = (in + 2 * s[2] - s[0]) / s[1] + 1;
              sums[i] = {in, s[0], s[1], s[2]};
              layers[i] = {out, s[0], s[1], s[2], 8, 0, run, &sums[i]};
              std::vector<int64_t> y(out);
              run(&sums[i], reinterpret_cast<char const*>(whole.data()), reinterpret_cast<char*>(y.data()), 0, out);
              whole = y;
              in = out;
            }
            layers[0].window_rows = stream_rows(band, second[0], second[1]);
            // Exactly as large as asked for: the sanitizer sees the first row outside.
            std::vector<int64_t> windows(pieces * layers[0].window_rows), y(in);
            for (ParallelFor parallel : {ParallelFor(serial), ParallelFor(one_by_one)}) {
              std::fill(y.begin(), y.end(), -1);
              stream(layers, 2, reinterpret_cast<char const*>(x.data()), reinterpret_cast<char*>(y.data()), band,
                     pieces, reinterpret_cast<char*>(windows.data()), 8 * layers[0].window_rows, {parallel});
              CHECK(y == whole);
            }
            layers[0].window_rows = std::min<int64_t>(layers[0].out_height, layers[0].window_rows) - 1;
            CHECK_THROWS(stream(layers, 2, nullptr, nullptr, band, pieces, nullptr, 1 << 20, {serial}));
          }
}
