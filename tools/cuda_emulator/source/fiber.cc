// Stacks come from one mapping and are touched only as far as they are used. The switch
// is the part that every exchange between lanes waits for: x86-64 gets it in assembly,
// other processors through ucontext, which makes a system call each time.
#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace emulator {
namespace {

constexpr size_t kStackBytes = 64 * 1024;
constexpr size_t kMaxStacks = 1024;

// Below each stack lies a page that cannot be touched: an overflow ends the process
// instead of changing a neighbour's variables.
class Stacks {
 public:
  Stacks() : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* memory = mmap(nullptr, kMaxStacks * stride(), PROT_NONE, flags, -1, 0);
    if (memory == MAP_FAILED) abort();
    memory_ = static_cast<char*>(memory);
    for (size_t stack = 0; stack < kMaxStacks; ++stack) {
      if (mprotect(bottom(stack), kStackBytes, PROT_READ | PROT_WRITE) != 0) abort();
    }
  }

  char* bottom(size_t stack) const { return memory_ + stack * stride() + page_; }

  // Stacks start at different cache lines: with equal ones the lanes of a warp would
  // contend for the same few sets of the cache.
  size_t usable_bytes(size_t stack) const { return kStackBytes - stack % 32 * 128; }

 private:
  size_t stride() const { return kStackBytes + page_; }

  size_t page_;
  char* memory_;
};

const Stacks& stacks() {
  static const Stacks all;
  return all;
}

}  // namespace

#if defined(EMULATOR_UCONTEXT)

void prepare(Context* context, unsigned stack, void (*entry)()) {
  if (getcontext(context) != 0) abort();
  context->uc_stack.ss_sp = stacks().bottom(stack);
  context->uc_stack.ss_size = stacks().usable_bytes(stack);
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
}

void switch_context(Context* from, Context* to) {
  if (swapcontext(from, to) != 0) abort();
}

#else

// Saves the registers that a call must keep, swaps stacks, restores those of the other.
// It leaves by a jump, for a return would go elsewhere than the processor predicts.
asm(R"(
.pushsection .text
.type emulator_switch, @function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq (%rsi), %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size emulator_switch, .-emulator_switch
.popsection
)");

extern "C" void emulator_switch(void** from, void** to);

void prepare(Context* context, unsigned stack, void (*entry)()) {
  // From the top: a return address of zero, where the search for exception handlers
  // ends, the entry's address and six registers. This also puts the stack where a
  // called function expects it: 8 bytes below a multiple of 16.
  constexpr size_t kWords = 8;
  uint64_t words[kWords] = {};
  words[6] = reinterpret_cast<uint64_t>(entry);
  char* top = stacks().bottom(stack) + stacks().usable_bytes(stack);
  context->stack_pointer = top - sizeof words;
  std::memcpy(context->stack_pointer, words, sizeof words);
}

void switch_context(Context* from, Context* to) {
  emulator_switch(&from->stack_pointer, &to->stack_pointer);
}

#endif

}  // namespace emulator
