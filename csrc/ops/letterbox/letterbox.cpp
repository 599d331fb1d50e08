#include "ops/letterbox/letterbox.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/convert.h"
#include "core/cpu.h"
#include "core/dispatch.h"
#include "ops/letterbox/letterbox_args.h"
#include "ops/letterbox/letterbox_taps.h"

namespace leyolo {

LEYOLO_SIMD(void resize_row(ResizeRowArgs const&))
LEYOLO_SIMD(void blend_rows(BlendRowsArgs const&))
LEYOLO_SIMD(void halve_rows(HalveRowsArgs const&))

namespace {

constexpr int64_t kLimit = 1 << 24;  // row offsets stay in 32 bits

constexpr int64_t kBands = 64;  // pieces of the output; those that one thread takes share row buffers

int64_t round_half_even(double v) { return int64_t(std::nearbyint(v)); }

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// One band's buffers: two horizontally resized rows, a row of pixels where they are not the result, a row of floats.
struct Sizes {
  int64_t resized, pixels, floats;

  Sizes(View out, Letterbox const& g)
      : resized(aligned(8 * g.resized_width)),
        pixels(out.dtype == DType::u8 ? 0 : aligned(3 * g.resized_width)),
        floats(size_of(out.dtype) != 2 ? 0 : aligned(12 * std::max(g.resized_width, g.width))) {}
  int64_t band() const { return 2 * resized + pixels + floats; }
};

struct Job {
  View image, out;
  Letterbox g;
  uint8_t value;
  bool swap_rb;
  Sizes sizes;
  int const* at;            // [resized_width]
  uint32_t const* weights;  // [resized_width]
  char* bands;

  int64_t height() const { return image.shape[1]; }
  int64_t width() const { return image.shape[2]; }
};

// Rows from top to bottom, with the buffers of one band.
class Band {
 public:
  Band(Job const& job, int64_t index, Context const& context) : j_(job), context_(context) {
    char* p = job.bands + index * job.sizes.band();
    for (short*& row : rows_) row = reinterpret_cast<short*>(p), p += job.sizes.resized;
    pixels_ = reinterpret_cast<uint8_t*>(p);
    floats_ = reinterpret_cast<float*>(p + job.sizes.pixels);
  }

  void run(int64_t begin, int64_t end) {  // rows of the whole batch
    Letterbox const& g = j_.g;
    int64_t const pixel = 3 * size_of(j_.out.dtype);
    for (int64_t i = begin; i < end; ++i) {
      int64_t const image = i / g.height, y = i % g.height - g.top;
      char* const to = static_cast<char*>(j_.out.data) + i * g.width * pixel;
      if (y < 0 || y >= g.resized_height) {
        fill(to, g.width);
        continue;
      }
      fill(to, g.left);
      convert(image, y, to + g.left * pixel);
      fill(to + (g.left + g.resized_width) * pixel, g.width - g.left - g.resized_width);
    }
  }

 private:
  uint8_t const* source(int64_t image, int64_t row) const {
    return j_.image.as<uint8_t>() + (image * j_.height() + row) * j_.width() * 3;
  }

  // Row y of the resized image, in the type of the result.
  void convert(int64_t image, int64_t y, char* to) {
    if (j_.out.dtype == DType::u8) return pixels(image, y, reinterpret_cast<uint8_t*>(to));
    pixels(image, y, pixels_);
    int64_t const count = 3 * j_.g.resized_width;
    bool const half = j_.out.dtype != DType::f32;
    unit_from_bytes(pixels_, half ? floats_ : reinterpret_cast<float*>(to), count);
    if (half) from_float(floats_, to, j_.out.dtype, count, context_);
  }

  void pixels(int64_t image, int64_t y, uint8_t* to) {
    Letterbox const& g = j_.g;
    if (g.resized_height == j_.height() && g.resized_width == j_.width()) return copy(source(image, y), to);
    if (2 * g.resized_height == j_.height() && 2 * g.resized_width == j_.width()) {
      LEYOLO_PICK(halve_rows)
      ({source(image, 2 * y), source(image, 2 * y + 1), int(g.resized_width), j_.swap_rb, to});
      return;
    }
    Tap const tap = row_tap(y, j_.height(), tap_scale(j_.height(), g.resized_height));
    resize(image, tap.first, tap.second);
    LEYOLO_PICK(blend_rows)
    ({rows_[0], rows_[tap.first == tap.second ? 0 : 1], tap.w0, tap.w1, int(g.resized_width), j_.swap_rb, to});
  }

  void copy(uint8_t const* row, uint8_t* to) const {
    int64_t const count = 3 * j_.g.resized_width;
    if (!j_.swap_rb)
      std::copy_n(row, count, to);
    else
      for (int64_t x = 0; x < count; x += 3) to[x] = row[x + 2], to[x + 1] = row[x + 1], to[x + 2] = row[x];
  }

  // Rows `first` and `second` into rows_[0] and rows_[1]; the row above may have left them there.
  void resize(int64_t image, int64_t first, int64_t second) {
    if (image != image_) have_[0] = have_[1] = -1, image_ = image;
    if (have_[1] == first) std::swap(rows_[0], rows_[1]), std::swap(have_[0], have_[1]);
    load(image, 0, first);
    if (second != first) load(image, 1, second);
  }
  void load(int64_t image, int slot, int64_t row) {
    if (have_[slot] == row) return;
    have_[slot] = row;
    LEYOLO_PICK(resize_row)
    ({source(image, row), int(j_.width()), int(j_.g.resized_width), j_.at, j_.weights, rows_[slot]});
  }

  void fill(char* to, int64_t pixels) {
    if (j_.out.dtype == DType::u8) {
      std::memset(to, j_.value, size_t(3 * pixels));
      return;
    }
    float const value = float(j_.value) / 255.0f;
    float* const floats = j_.out.dtype == DType::f32 ? reinterpret_cast<float*>(to) : floats_;
    std::fill_n(floats, 3 * pixels, value);
    if (j_.out.dtype != DType::f32) from_float(floats_, to, j_.out.dtype, 3 * pixels, context_);
  }

  Job const& j_;
  Context const& context_;
  short* rows_[2];
  int64_t have_[2] = {-1, -1}, image_ = -1;  // the source rows in rows_
  uint8_t* pixels_;
  float* floats_;
};

}  // namespace

Letterbox letterbox_geometry(int64_t height, int64_t width, int64_t size_height, int64_t size_width, int64_t stride,
                             bool rect, bool scale_up) {
  check(std::min({height, width, size_height, size_width, stride}) > 0,
        "letterbox: image, size and stride must be positive, got image ", height, " x ", width, ", size ", size_height,
        " x ", size_width, ", stride ", stride);
  check(std::max({height, width, size_height, size_width, stride}) <= kLimit,
        "letterbox: image, size and stride must be at most ", kLimit, ", got image ", height, " x ", width, ", size ",
        size_height, " x ", size_width, ", stride ", stride);
  Letterbox g{};
  g.scale = std::min(double(size_height) / double(height), double(size_width) / double(width));
  if (!scale_up) g.scale = std::min(g.scale, 1.0);
  g.resized_height = std::max<int64_t>(1, round_half_even(double(height) * g.scale));
  g.resized_width = std::max<int64_t>(1, round_half_even(double(width) * g.scale));
  g.height = rect ? (g.resized_height + stride - 1) / stride * stride : size_height;
  g.width = rect ? (g.resized_width + stride - 1) / stride * stride : size_width;
  g.left = round_half_even(double(g.width - g.resized_width) / 2 - 0.1);
  g.top = round_half_even(double(g.height - g.resized_height) / 2 - 0.1);
  return g;
}

int64_t letterbox_workspace(View out, Letterbox const& g) {
  if (out.device == Device::cuda) return 0;
  return 2 * aligned(4 * g.resized_width) + kBands * Sizes(out, g).band();
}

void letterbox(View image, View out, View workspace, Letterbox const& g, int64_t value, bool swap_rb,
               Context const& context) {
  check(image.rank == 4 && image.shape[3] == 3 && image.dtype == DType::u8,
        "letterbox: image must be uint8 [H, W, 3] or [B, H, W, 3], got ", image);
  check(value >= 0 && value <= 255, "letterbox: value must be 0 to 255, got ", value);
  check(out.rank == 4 && out.shape[0] == image.shape[0] && out.shape[1] == g.height && out.shape[2] == g.width &&
            out.shape[3] == 3,
        "letterbox: out must be [", image.shape[0], ", ", g.height, ", ", g.width, ", 3], got ", out);
  check(out.dtype == DType::f32 || out.dtype == DType::f16 || out.dtype == DType::bf16 || out.dtype == DType::u8,
        "letterbox: out must be float32, float16, bfloat16 or uint8, got ", out);
  check(out.device == image.device, "letterbox: image and out must be on one device, got ", image, " and ", out);
  check(!overlap(image, out), "letterbox: image and out must not share memory");
  check(g.resized_height > 0 && g.resized_width > 0 && g.left >= 0 && g.top >= 0 && g.resized_width <= g.width &&
            g.left <= g.width - g.resized_width && g.resized_height <= g.height && g.top <= g.height - g.resized_height,
        "letterbox: the resized image, ", g.resized_height, " x ", g.resized_width, " at (", g.left, ", ", g.top,
        "), does not fit into ", g.height, " x ", g.width);
  check(std::max({g.height, g.width, image.shape[1], image.shape[2]}) <= kLimit, "letterbox: sides must be at most ",
        kLimit, ", got ", image, " and ", out);
  check(image.shape[0] == 0 || (image.shape[1] > 0 && image.shape[2] > 0), "letterbox: image has no pixels, got ",
        image);
  check(workspace.numel() * size_of(workspace.dtype) >= letterbox_workspace(out, g),
        "letterbox: the workspace is too small");
  if (image.shape[0] == 0) return;
  LEYOLO_DISPATCH("letterbox", image.device, letterbox_cpu(image, out, workspace, g, value, swap_rb, context),
                  letterbox_cuda(image, out, g, value, swap_rb, context));
}

void letterbox_cpu(View image, View out, View workspace, Letterbox const& g, int64_t value, bool swap_rb,
                   Context const& context) {
  char* const memory = workspace.as<char>();
  int* const at = reinterpret_cast<int*>(memory);
  uint32_t* const weights = reinterpret_cast<uint32_t*>(memory + aligned(4 * g.resized_width));
  for (int64_t x = 0; x < g.resized_width; ++x) {
    Tap const tap = column_tap(x, image.shape[2], tap_scale(image.shape[2], g.resized_width));
    at[x] = tap.first, weights[x] = uint32_t(tap.w0) | uint32_t(tap.w1) << 16;
  }
  Job const job{
      image, out, g, uint8_t(value), swap_rb, Sizes(out, g), at, weights, memory + 2 * aligned(4 * g.resized_width)};
  int64_t const rows = image.shape[0] * g.height, bands = std::min(kBands, rows);
  parallel_for(context, 0, bands, 1, [&](int64_t begin, int64_t end) {
    Band(job, begin, context).run(begin * rows / bands, end * rows / bands);
  });
}

}  // namespace leyolo
