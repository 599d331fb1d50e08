#include "check.h"
#include "core/isa.h"

int main() {
  for (Test const& test : tests()) {
    int const before = failures;
    test.run();
    std::printf("%s %s\n", failures == before ? "ok    " : "FAILED", test.name);
  }
  std::printf("%zu tests, %d failures, isa %s\n", tests().size(), failures, name_of(leyolo::isa()));
  return failures ? 1 : 0;
}
