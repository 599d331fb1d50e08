#include "core/cache.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace leyolo {

namespace {

constexpr char const* kProcessors = "/sys/devices/system/cpu";
constexpr int kMaxProcessor = 1 << 16;

std::string first_line(std::string const& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "48K", "2M" or plain bytes; 0 where that is not what it says.
int64_t bytes_of(std::string const& text) {
  std::istringstream in(text);
  int64_t value = 0;
  char unit = 0;
  if (!(in >> value) || value < 0 || value > (int64_t(1) << 32)) return 0;
  in >> unit;
  return unit == 'K' ? value << 10 : unit == 'M' ? value << 20 : value;
}

// "0-3,8" as 0, 1, 2, 3, 8; empty where that is not what it says.
std::vector<int> processors_of(std::string const& text) {
  std::vector<int> found;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    std::istringstream range(part);
    int first = 0, last = 0;
    char dash = 0;
    if (!(range >> first)) return {};
    last = range >> dash >> last && dash == '-' ? last : first;
    if (first < 0 || last < first || last >= kMaxProcessor) return {};
    for (int p = first; p <= last; ++p) found.push_back(p);
  }
  return found;
}

// The first processor of the same core; a processor whose core is not told is one of its own.
int core_of(std::string const& folder, int processor) {
  std::vector<int> const siblings =
      processors_of(first_line(folder + "/cpu" + std::to_string(processor) + "/topology/thread_siblings_list"));
  return siblings.empty() ? processor : siblings.front();
}

int cores_of(std::string const& folder, std::vector<int> const& processors) {
  std::set<int> cores;
  for (int p : processors) cores.insert(core_of(folder, p));
  return std::max(1, int(cores.size()));
}

CacheSizes of_this_machine() {
  std::vector<int> const allowed = allowed_processors();
  CacheSizes sizes = read_cache_sizes(kProcessors, allowed.empty() ? 0 : allowed.front());
#ifdef _SC_LEVEL1_DCACHE_SIZE
  // Not for l3: of virtual machines the C library reports that of the whole host.
  if (sizes.l1d == 0) sizes.l1d = std::max(0L, sysconf(_SC_LEVEL1_DCACHE_SIZE));
  if (sizes.l2 == 0) sizes.l2 = std::max(0L, sysconf(_SC_LEVEL2_CACHE_SIZE));
#endif
  CacheSizes const assumed;
  if (sizes.l1d < (4 << 10) || sizes.l1d > (1 << 20)) sizes.l1d = assumed.l1d;
  if (sizes.l2 < sizes.l1d || sizes.l2 > (64 << 20)) sizes.l2 = std::max(assumed.l2, sizes.l1d);
  if (sizes.l3 < sizes.l2) sizes.l3 = 0, sizes.l3_cores = 1;
  return sizes;
}

}  // namespace

CacheSizes read_cache_sizes(char const* folder, int processor) {
  CacheSizes sizes{0, 0, 0, 1};
  std::string const caches = std::string(folder) + "/cpu" + std::to_string(processor) + "/cache/index";
  for (int i = 0;; ++i) {
    std::string const cache = caches + std::to_string(i) + "/", level = first_line(cache + "level");
    if (level.empty()) return sizes;
    int64_t const size = bytes_of(first_line(cache + "size"));
    if (size == 0 || first_line(cache + "type") == "Instruction") continue;
    int const cores = cores_of(folder, processors_of(first_line(cache + "shared_cpu_list")));
    if (level == "1") sizes.l1d = size / cores;
    if (level == "2") sizes.l2 = size / cores;
    if (level == "3") sizes.l3 = size, sizes.l3_cores = cores;
  }
}

std::vector<int> allowed_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return {};
  std::vector<int> found, siblings;
  std::set<int> cores;
  for (int p = 0; p < CPU_SETSIZE; ++p)
    if (CPU_ISSET(p, &set)) (cores.insert(core_of(kProcessors, p)).second ? found : siblings).push_back(p);
  found.insert(found.end(), siblings.begin(), siblings.end());
  return found;
}

CacheSizes const& cache_sizes() {
  static CacheSizes const sizes = of_this_machine();
  return sizes;
}

}  // namespace leyolo
