#include "counter.h"

#include <csignal>
#include <stdexcept>

namespace negative_cosine {
#if defined(__x86_64__) && defined(__linux__)
namespace {

volatile int64_t counted = 0;

void count_one(int) { counted = counted + 1; }

constexpr uint64_t kTrapFlag = 0x100;

// Functions of their own: in another's, the compiler may keep something below the stack
// pointer, where these push.
__attribute__((noinline)) void start_trapping() {
  asm volatile(
      "sub $128, %%rsp\n\tpushfq\n\torq %0, (%%rsp)\n\tpopfq\n\tadd $128, %%rsp" ::"i"(
          kTrapFlag)
      : "cc", "memory");
}

__attribute__((noinline)) void stop_trapping() {
  asm volatile(
      "sub $128, %%rsp\n\tpushfq\n\tandq %0, (%%rsp)\n\tpopfq\n\tadd $128, %%rsp" ::"i"(
          ~kTrapFlag)
      : "cc", "memory");
}

int64_t count_between(const std::function<void()>& work) {
  counted = 0;
  start_trapping();
  work();
  stop_trapping();
  return counted;
}

}  // namespace

int64_t count_instructions(const std::function<void()>& work) {
  struct sigaction handler = {};
  struct sigaction previous = {};
  handler.sa_handler = count_one;
  if (sigaction(SIGTRAP, &handler, &previous) != 0) {
    throw std::runtime_error("SIGTRAP cannot be handled");
  }
  const int64_t count = count_between(work) - count_between([] {});
  sigaction(SIGTRAP, &previous, nullptr);
  return count;
}

#else

int64_t count_instructions(const std::function<void()>&) {
  throw std::runtime_error("instructions are counted on x86-64 under Linux alone");
}

#endif
}  // namespace negative_cosine
