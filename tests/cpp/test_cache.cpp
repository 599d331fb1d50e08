// Cache sizes: those of folders as the system lays them out, whole, shared and broken.
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "check.h"
#include "core/cache.h"

using namespace leyolo;

namespace {

// A folder like /sys/devices/system/cpu, gone at the end.
struct Folder {
  std::string path;

  Folder() {
    path = (std::filesystem::temp_directory_path() / "leyolo-cache-XXXXXX").string();
    CHECK(mkdtemp(path.data()));
  }
  ~Folder() { std::filesystem::remove_all(path); }
  void write(std::string const& name, std::string const& text) {
    std::filesystem::path const file = path + "/" + name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }
  void cache(int index, char const* level, char const* type, char const* size, char const* shared) {
    std::string const folder = "cpu2/cache/index" + std::to_string(index) + "/";
    write(folder + "level", level);
    write(folder + "type", type);
    write(folder + "size", size);
    write(folder + "shared_cpu_list", shared);
  }
};

}  // namespace

TEST(cache_sizes_count_cores_not_processors) {
  Folder f;
  for (int p = 0; p < 8; ++p)
    f.write("cpu" + std::to_string(p) + "/topology/thread_siblings_list",
            p % 2 ? std::to_string(p - 1) + "-" + std::to_string(p) : std::to_string(p) + "-" + std::to_string(p + 1));
  f.cache(0, "1", "Data", "48K", "2-3");
  f.cache(1, "1", "Instruction", "32K", "2-3");
  f.cache(2, "2", "Unified", "4M", "0-3");
  f.cache(3, "3", "Unified", "32768K", "0-3,4,5-7");
  CacheSizes const s = read_cache_sizes(f.path.c_str(), 2);
  CHECK(s.l1d == 48 << 10);
  CHECK(s.l2 == 2 << 20);  // two cores share it
  CHECK(s.l3 == 32 << 20);
  CHECK(s.l3_cores == 4);
}

TEST(cache_sizes_survive_nonsense) {
  Folder f;
  CHECK(read_cache_sizes(f.path.c_str(), 2).l1d == 0);
  CHECK(read_cache_sizes("/nowhere", 0).l2 == 0);
  f.cache(0, "1", "Data", "many", "2");
  f.cache(1, "2", "Unified", "-1K", "2");
  f.cache(2, "3", "Unified", "1024K", "7-2,x");
  CacheSizes const s = read_cache_sizes(f.path.c_str(), 2);
  CHECK(s.l1d == 0 && s.l2 == 0);
  CHECK(s.l3 == 1 << 20 && s.l3_cores == 1);
}

TEST(cache_sizes_of_this_machine_are_plausible) {
  CacheSizes const& s = cache_sizes();
  CHECK(s.l1d >= 4 << 10 && s.l1d <= s.l2 && s.l2 <= 64 << 20);
  CHECK(s.l3 == 0 || s.l3 >= s.l2);
  CHECK(s.l3_cores >= 1);
  std::vector<int> const allowed = allowed_processors();
  for (size_t i = 0; i < allowed.size(); ++i)
    for (size_t j = 0; j < i; ++j) CHECK(allowed[i] != allowed[j]);
}
