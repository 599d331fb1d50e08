// What AddressSanitizer and ThreadSanitizer must hear about fibers; nothing without them.
#pragma once

#include <cstddef>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(char const* file, int line);
void AnnotateIgnoreReadsEnd(char const* file, int line);
void AnnotateIgnoreWritesBegin(char const* file, int line);
void AnnotateIgnoreWritesEnd(char const* file, int line);
}
#endif

namespace shim {

#ifdef __SANITIZE_THREAD__
constexpr bool kThreadSanitizer = true;
inline void acquire(void* tag) { __tsan_acquire(tag); }
inline void release(void* tag) { __tsan_release(tag); }
// The scheduler's own memory is no business of ThreadSanitizer.
struct Quiet {
  Quiet() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  Quiet(Quiet const&) = delete;
  ~Quiet() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};
#else
constexpr bool kThreadSanitizer = false;
inline void acquire(void*) {}
inline void release(void*) {}
struct Quiet {
  Quiet() {}
};
#endif

struct StackOfFiber {
  void const* bottom = nullptr;
  size_t size = 0;
  void* fake = nullptr;
  void* fiber = nullptr;

  void create(void* memory, size_t bytes) {
    bottom = memory, size = bytes;
#ifdef __SANITIZE_THREAD__
    fiber = __tsan_create_fiber(0);
#endif
  }
  void create_of_thread() {
#ifdef __SANITIZE_THREAD__
    fiber = __tsan_get_current_fiber();
#endif
  }
  void before_switch_to([[maybe_unused]] StackOfFiber const& to) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&fake, to.bottom, to.size);
#endif
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(to.fiber, __tsan_switch_to_fiber_no_sync);
#endif
  }
  // The bounds of the thread's own stack are not known before the first switch away from it.
  void after_switch_back([[maybe_unused]] StackOfFiber& thread) {
#ifdef __SANITIZE_ADDRESS__
    void const* from = nullptr;
    size_t from_size = 0;
    __sanitizer_finish_switch_fiber(fake, &from, &from_size);
    if (!thread.bottom) thread.bottom = from, thread.size = from_size;
#endif
  }
};

}  // namespace shim
