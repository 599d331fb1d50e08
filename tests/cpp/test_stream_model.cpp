#include <limits>

#include "check.h"
#include "core/stream_model.h"

using namespace leyolo;

namespace {

// Three layers of 100 rows: only the middle one has a window of its own over its input.
struct Layers {
  StreamLayer layers[3] = {{100, 1, 1, 0, 1000, 0, nullptr, nullptr},
                           {100, 3, 1, 1, 500, 0, nullptr, nullptr},
                           {100, 1, 1, 0, 0, 0, nullptr, nullptr}};
};

}  // namespace

TEST(stream_model_knows_which_maps_leave) {
  StreamModel const model{1000, 0.75};
  CHECK(!model.leaves(1500));
  CHECK(model.leaves(1501));
  CHECK((StreamModel{1000, 0}.leaves(1)));
  CHECK((!StreamModel{1000, std::numeric_limits<double>::infinity()}.leaves(int64_t(1) << 50)));
  CHECK(StreamModel{}.cache_bytes == cache_sizes().l2);
}

TEST(stream_model_takes_the_highest_band_that_fits) {
  // A band of n rows reads n + 2 rows of the first layer; windows hold twice as much.
  for (int64_t band : {8, 4, 2, 1}) {
    int64_t const bytes = 2 * (band + 2) * 1000 + 2 * band * 500;
    Layers a, b;
    CHECK((StreamModel{2 * bytes, 0.5}.windows(a.layers, 3) == band));
    CHECK(a.layers[0].window_rows == 2 * (band + 2) && a.layers[1].window_rows == 2 * band);
    CHECK(stream_window_bytes(a.layers, 3) == bytes);
    CHECK((StreamModel{2 * bytes - 2, 0.5}.windows(b.layers, 3) == band / 2));
  }
  Layers c;
  CHECK((StreamModel{10, 0}.windows(c.layers, 3) == 8));  // whatever it takes
}

TEST(stream_model_keeps_no_more_rows_than_there_are) {
  Layers a;
  for (StreamLayer& layer : a.layers) layer.out_height = 7;
  CHECK((StreamModel{1 << 20, 0.75}.windows(a.layers, 3) == 8));
  CHECK(a.layers[0].window_rows == 7 && a.layers[1].window_rows == 7);
}
