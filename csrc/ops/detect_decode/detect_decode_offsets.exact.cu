// One block per image: sums the chunks' counts and, where there are more candidates than fit, finds the cut digit by
// digit, as the CPU twin does.
#include "ops/detect_decode/detect_decode.cuh"

namespace leyolo {

namespace {

constexpr int kRadix = 2048, kWarps = kThreads / 32;

// The digit at which the `keep` greatest keys end, and how many of those with that digit belong to them. By one warp.
struct Digit {
  unsigned digit;
  int64_t keep;
};
__device__ Digit find_digit(unsigned const* histogram, int64_t keep) {
  constexpr int each = kRadix / 32;
  int const lane = threadIdx.x % 32, top = kRadix - 1 - lane * each;
  int64_t own = 0;
  for (int i = 0; i < each; ++i) own += histogram[top - i];
  int64_t const before = detect_warp_scan(own) - own;
  unsigned const reached = __ballot_sync(kAllLanes, before + own >= keep);
  int const who = __ffs(int(reached)) - 1;
  int64_t left = keep - __shfl_sync(kAllLanes, before, who);
  int digit = kRadix - 1 - who * each;
  while (histogram[digit] < left) left -= histogram[digit--];
  return {unsigned(digit), left};
}

// Leaves in counts and ties of every chunk how many candidates lie above the cut and how many at it. Returns the cut
// and, in `keep`, how many of all at the cut stay.
template <bool yolox, bool multi, class T>
__device__ uint32_t select(DetectHead<T> const& d, int64_t image, int64_t& keep) {
  LEYOLO_SHARED(unsigned, histogram, kRadix);
  LEYOLO_SHARED(Digit, found, 1);
  int const lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t const base = image * d.chunks;
  auto const each = [&](int64_t chunk, auto&& f) {
    detect_each<yolox, multi>(d, image, chunk * kDetectChunk, min_of(d.anchors, (chunk + 1) * kDetectChunk), f);
  };
  uint32_t prefix = 0, known = 0;
  for (int pass = 0; pass < 3; ++pass) {
    int const shift = pass == 0 ? 21 : pass == 1 ? 10 : 0;
    uint32_t const digits = shift == 0 ? 0x3ffu : 0x7ffu;
    for (int i = threadIdx.x; i < kRadix; i += kThreads) histogram[i] = 0;
    __syncthreads();
    for (int64_t c = warp; c < d.chunks; c += kWarps)
      if (d.memory.counts[base + c])
        each(c, [&](float rank) {
          uint32_t const key = order_key(rank);
          if ((key & known) == prefix) atomicAdd(histogram + (key >> shift & digits), 1u);
        });
    __syncthreads();
    if (warp == 0) {
      Digit const digit = find_digit(histogram, keep);
      if (lane == 0) *found = digit;
    }
    __syncthreads();
    prefix |= found->digit << shift, known |= digits << shift, keep = found->keep;
  }
  for (int64_t c = warp; c < d.chunks; c += kWarps) {
    int above = 0, at = 0;
    if (d.memory.counts[base + c])
      each(c, [&](float rank) {
        uint32_t const key = order_key(rank);
        above += key > prefix, at += key == prefix;
      });
    above = detect_warp_sum(above), at = detect_warp_sum(at);
    if (lane == 0) d.memory.counts[base + c] = above, d.memory.ties[base + c] = at;
  }
  __syncthreads();
  return prefix;
}

template <bool yolox, bool multi, class T>
__global__ void __launch_bounds__(kThreads, 2) detect_offsets_kernel(DetectHead<T> d, int64_t* counts) {
  LEYOLO_SHARED(long long, total, 1);
  int const lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t const image = blockIdx.x, base = image * d.chunks;
  if (warp == 0) {
    int64_t sum = 0;
    for (int64_t c = lane; c < d.chunks; c += 32) sum += d.memory.counts[base + c];
    sum = detect_warp_sum(sum);
    if (lane == 0) *total = sum;
  }
  __syncthreads();
  int64_t keep = d.capacity;
  bool const too_many = *total > d.capacity;
  uint32_t const cut = too_many ? select<yolox, multi>(d, image, keep) : 0;
  if (warp != 0) return;
  int64_t offset = 0, ties = 0;
  for (int64_t first = 0; first < d.chunks; first += 32) {
    int64_t const c = base + first + lane;
    bool const there = first + lane < d.chunks;
    int64_t count = there ? d.memory.counts[c] : 0, at = there && too_many ? d.memory.ties[c] : 0;
    int64_t const ties_until = ties + detect_warp_scan(at);
    at = max_of<int64_t>(0, min_of(at, keep - (ties_until - at)));
    count += at;
    int64_t const until = offset + detect_warp_scan(count);
    if (there) d.memory.counts[c] = count, d.memory.ties[c] = at, d.memory.offsets[c] = until - count;
    offset = __shfl_sync(kAllLanes, until, 31), ties = __shfl_sync(kAllLanes, ties_until, 31);
  }
  if (lane == 0) counts[image] = offset, d.memory.cut[image] = cut;
}

}  // namespace

template <class T>
void detect_offsets(DetectHead<T> const& d, View counts, bool yolox, bool multi, Context const& context) {
  auto const launch = [&](auto is_yolox, auto is_multi) {
    LEYOLO_LAUNCH((detect_offsets_kernel<decltype(is_yolox)::value, decltype(is_multi)::value, T>), unsigned(d.batch),
                  kThreads, 0, context.stream, d, counts.as<int64_t>());
  };
  auto const choose = [&](auto is_yolox) {
    multi ? launch(is_yolox, std::true_type()) : launch(is_yolox, std::false_type());
  };
  yolox ? choose(std::true_type()) : choose(std::false_type());
}
template void detect_offsets(DetectHead<float> const&, View, bool, bool, Context const&);
template void detect_offsets(DetectHead<__half> const&, View, bool, bool, Context const&);
template void detect_offsets(DetectHead<__nv_bfloat16> const&, View, bool, bool, Context const&);

}  // namespace leyolo
