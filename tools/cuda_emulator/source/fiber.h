// Stacks to run the threads of a block on, and the switch between them.
//
// A context is a place where execution stopped: its registers, on its own stack.
#pragma once

// Defined by hand to try on x86-64 what other processors get.
#if !defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)
#define EMULATOR_UCONTEXT
#endif
#if defined(EMULATOR_UCONTEXT)
#include <ucontext.h>
#endif

namespace emulator {

#if defined(EMULATOR_UCONTEXT)
using Context = ucontext_t;
#else
struct Context {
  void* stack_pointer;
};
#endif

// Makes `context` one that calls `entry` on the stack with this number, which it owns
// from then on. `entry` must not return.
void prepare(Context* context, unsigned stack, void (*entry)());

// Goes on at `to`; returns when something switches to `from`.
void switch_context(Context* from, Context* to);

}  // namespace emulator
