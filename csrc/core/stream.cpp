#include "core/stream.h"

#include <cstring>

#include "core/check.h"

namespace leyolo {

namespace {

constexpr int kMaxLayers = 16;

// One thread's run over rows [begin, end) of the last layer.
class Run {
 public:
  Run(StreamLayer const* layers, int count, char const* x, char* y, char* windows, int64_t begin)
      : layers_(layers), count_(count), x_(x), y_(y) {
    int64_t first = begin;
    for (int i = count - 1; i >= 0; --i) {
      made_[i] = held_[i] = first;
      first = std::max<int64_t>(0, first * layers[i].stride - layers[i].padding);
    }
    for (int i = 0; i < count - 1; ++i) {
      memory_[i] = windows;
      windows += layers[i].window_rows * layers[i].row_bytes;
    }
  }

  // Makes the last layer's rows up to `end`.
  void advance(int64_t end) {
    int64_t ends[kMaxLayers];
    for (int i = count_ - 1; i >= 0; --i) {
      StreamLayer const& l = layers_[i];
      ends[i] = std::max(made_[i], std::min(end, l.out_height));
      end = (ends[i] - 1) * l.stride - l.padding + l.kernel;
    }
    for (int i = 0; i < count_; ++i) {
      if (i < count_ - 1) make_room(i, ends[i]);
      layers_[i].run(layers_[i].layer, i ? row_zero(i - 1) : x_, i < count_ - 1 ? row_zero(i) : y_, made_[i], ends[i]);
      made_[i] = ends[i];
    }
  }

 private:
  // Where row 0 would lie, by arithmetic on integers: it may be outside the memory.
  char* row_zero(int i) const {
    return reinterpret_cast<char*>(reinterpret_cast<intptr_t>(memory_[i]) - held_[i] * layers_[i].row_bytes);
  }

  // Moves the rows that the next layer still reads to the front of the window, if those up to `end` do not fit.
  void make_room(int i, int64_t end) {
    StreamLayer const &l = layers_[i], &next = layers_[i + 1];
    if (end - held_[i] <= l.window_rows) return;
    int64_t const low = std::max<int64_t>(0, made_[i + 1] * next.stride - next.padding);
    if (low < made_[i])
      std::memmove(memory_[i], memory_[i] + (low - held_[i]) * l.row_bytes, size_t((made_[i] - low) * l.row_bytes));
    else
      made_[i] = low;  // a stride larger than the kernel: nobody reads the rows between
    held_[i] = low;
  }

  StreamLayer const* layers_;
  int count_;
  char const* x_;
  char* y_;
  char* memory_[kMaxLayers];
  int64_t made_[kMaxLayers], held_[kMaxLayers];  // the next row to be made; the first row in the window
};

}  // namespace

void stream(StreamLayer const* layers, int count, char const* x, char* y, int64_t band, int64_t pieces, char* windows,
            int64_t window_bytes, Context const& context) {
  check(count > 0 && count <= kMaxLayers && band > 0 && pieces > 0, "stream: needs 1 to ", kMaxLayers,
        " layers, a band and a piece, got ", count, ", ", band, ", ", pieces);
  int64_t rows = band;
  for (int i = count - 1; i > 0; --i) {
    rows = stream_rows(rows, layers[i].kernel, layers[i].stride);
    check(layers[i - 1].window_rows >= std::min(rows, layers[i - 1].out_height), "stream: layer ", i - 1,
          " needs a window of ", rows, " rows, got ", layers[i - 1].window_rows);
  }
  int64_t const bytes = stream_window_bytes(layers, count);
  check(bytes <= window_bytes, "stream: the windows need ", bytes, " bytes, got ", window_bytes);
  int64_t const height = layers[count - 1].out_height;
  parallel_for(context, 0, pieces, 1, [&](int64_t begin, int64_t end) {
    int64_t const first = begin * height / pieces, last = end * height / pieces;
    Run run(layers, count, x, y, windows + begin * window_bytes, first);
    for (int64_t row = first; row < last; row += band) run.advance(std::min(row + band, last));
  });
}

}  // namespace leyolo
