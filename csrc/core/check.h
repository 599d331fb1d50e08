// Checks with words: what was expected and what came. The text is put together only when a check fails.
#pragma once

#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>

#include "core/view.h"

namespace leyolo {

inline std::ostream& operator<<(std::ostream& out, DType t) { return out << name_of(t); }
inline std::ostream& operator<<(std::ostream& out, Device d) { return out << name_of(d); }

// Prints as "float32 [2, 3] on cpu".
inline std::ostream& operator<<(std::ostream& out, View const& v) {
  if (!v) return out << "nothing";
  out << v.dtype << " [";
  for (int d = 0; d < v.rank; ++d) out << (d ? ", " : "") << v.shape[d];
  out << "] on " << v.device;
  return v.index ? out << ':' << int(v.index) : out;
}

template <class... Args>
[[noreturn]] void fail(Args const&... args) {
  std::ostringstream text;
  (text << ... << args);
  throw std::invalid_argument(text.str());
}

// check(ok, "nms: boxes must be [N, 4], got ", boxes)
template <class... Args>
void check(bool ok, Args const&... args) {
  if (!ok) [[unlikely]]
    fail(args...);
}

// All arguments that are there must lie where the first one does: a pointer to the GPU must not reach the CPU's
// kernels.
inline void check_one_device(char const* op, View const& first, std::initializer_list<View> others) {
  for (View const& v : others)
    check(!v || (v.device == first.device && v.index == first.index), op, ": all arguments must be on one device, got ",
          first, " and ", v);
}

inline bool overlap(View const& a, View const& b) {
  auto const begin = [](View const& v) { return static_cast<char const*>(v.data); };
  auto const end = [&](View const& v) { return begin(v) + v.numel() * size_of(v.dtype); };
  return a && b && begin(a) < end(b) && begin(b) < end(a);
}

}  // namespace leyolo
