// A test is a function registered by TEST(name); CHECK prints what failed and where, and the run goes on.
#pragma once

#include <cmath>
#include <cstdio>
#include <vector>

struct Test {
  char const* name;
  void (*run)();
};
inline std::vector<Test>& tests() {
  static std::vector<Test> list;
  return list;
}
inline int failures = 0;

#define TEST(name)                                                                   \
  static void test_##name();                                                         \
  static bool const added_##name = (tests().push_back({#name, &test_##name}), true); \
  static void test_##name()

#define CHECK(condition)                                                           \
  do {                                                                             \
    if (!(condition)) {                                                            \
      ++failures;                                                                  \
      std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                              \
  } while (0)

#define CHECK_NEAR(a, b, tolerance)                                                                   \
  do {                                                                                                \
    double const va = (a), vb = (b);                                                                  \
    if (!(std::fabs(va - vb) <= (tolerance))) {                                                       \
      ++failures;                                                                                     \
      std::fprintf(stderr, "%s:%d: %s = %g, expected %g within %g\n", __FILE__, __LINE__, #a, va, vb, \
                   double(tolerance));                                                                \
    }                                                                                                 \
  } while (0)

#define CHECK_THROWS(expression)      \
  do {                                \
    bool thrown = false;              \
    try {                             \
      expression;                     \
    } catch (std::exception const&) { \
      thrown = true;                  \
    }                                 \
    CHECK(thrown && #expression);     \
  } while (0)
