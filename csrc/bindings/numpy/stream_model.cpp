#include "core/stream_model.h"

#include <tuple>

#include "bindings/numpy/common.h"

namespace leyolo {

static std::tuple<int64_t, std::vector<int64_t>> windows(
    std::vector<std::tuple<int64_t, int64_t, int64_t, int64_t>> const& layers, int64_t cache_bytes, double share) {
  check(layers.size() > 1, "stream_windows: needs at least two layers, got ", layers.size());
  std::vector<StreamLayer> found;
  for (auto const& [height, kernel, stride, row_bytes] : layers) {
    check(height > 0 && kernel > 0 && stride > 0 && row_bytes >= 0, "stream_windows: sizes must be positive, got ",
          height, ", ", kernel, ", ", stride, ", ", row_bytes);
    found.push_back({height, kernel, stride, 0, row_bytes, 0, nullptr, nullptr});
  }
  int64_t const band = StreamModel{cache_bytes, share}.windows(found.data(), int(found.size()));
  std::vector<int64_t> rows;
  for (size_t i = 0; i + 1 < found.size(); ++i) rows.push_back(found[i].window_rows);
  return {band, rows};
}

LEYOLO_NUMPY_OP(stream_model) {
  m.def(
      "stream_leaves",
      [](int64_t map_bytes, int64_t cache_bytes, double share) {
        return StreamModel{cache_bytes, share}.leaves(map_bytes);
      },
      py::arg("map_bytes"), py::arg("cache_bytes"), py::arg("share"),
      "Whether a map between two layers is better made row by row.");
  m.def("stream_windows", &windows, py::arg("layers"), py::arg("cache_bytes"), py::arg("share"),
        "layers: (rows of the output, kernel, stride, bytes of an output row). Returns the rows of a band (0: not even "
        "one fits) and how many rows of every output but the last are kept.");
}

}  // namespace leyolo
