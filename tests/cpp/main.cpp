#include <cstring>

#include "check.h"
#include "core/isa.h"

// Arguments: beginnings of the names of the tests to run; none for all.
int main(int count, char** arguments) {
  size_t run = 0;
  for (Test const& test : tests()) {
    bool wanted = count == 1;
    for (int i = 1; i < count; ++i)
      wanted = wanted || !std::strncmp(test.name, arguments[i], std::strlen(arguments[i]));
    if (!wanted) continue;
    int const before = failures;
    test.run();
    ++run;
    std::printf("%s %s\n", failures == before ? "ok    " : "FAILED", test.name);
  }
  std::printf("%zu tests, %d failures, isa %s\n", run, failures, name_of(leyolo::isa()));
  return failures || !run ? 1 : 0;
}
