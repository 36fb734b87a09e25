// Two accesses of one element clash when at least one is a write, two threads make
// them, and nothing orders them: no __syncthreads in between and, within a warp, no
// __syncwarp of all its lanes. Shuffles and votes order nothing, by CUDA's definition.
#include "emulation/shared_element.h"

#include <string>

#include "block.h"
#include "fault.h"

namespace emulator {

SharedHistory::Trace SharedHistory::trace_of_the_running_thread() {
  return {barriers_passed(), syncs_passed_by_warp(), running_thread(),
          Scope::kOneThread};
}

bool SharedHistory::may_clash(const Trace& earlier) {
  const Trace now = trace_of_the_running_thread();
  if (earlier.barriers != now.barriers) return false;
  if (earlier.scope == Scope::kBlock) return true;
  if (earlier.thread / kWarpSize != now.thread / kWarpSize) return true;
  if (earlier.syncs != now.syncs) return false;
  return earlier.scope == Scope::kOneWarp || earlier.thread != now.thread;
}

// An element that is out of bounds, or whose copy belongs to this block: a launch that
// ended in a fault may have left others under way.
void SharedHistory::raise_if_closed(const char* access) const {
  if (write_.barriers == kOutOfBounds) {
    raise_fault(cudaErrorLaunchFailure,
                std::string(access) + " shared memory beyond the ends of an array");
  }
  if (write_.barriers == kUnderWay && write_.syncs == barriers_at_start_of_block()) {
    raise_fault(cudaErrorLaunchFailure,
                std::string("missing wait_for_copies: ") + access +
                    " shared memory to which a copy by thread " +
                    std::to_string(write_.thread) + " of the block is under way");
  }
}

void SharedHistory::raise_unreadable() const {
  raise_if_closed("read of");
  raise_fault(cudaErrorLaunchFailure, "read of shared memory that nothing wrote");
}

void SharedHistory::on_read() {
  // Marks wrap around to large numbers here, as do earlier blocks' barriers.
  const uint64_t start = barriers_at_start_of_block();
  if (write_.barriers - start > barriers_passed() - start) raise_unreadable();
  if (may_clash(write_)) {
    raise_fault(cudaErrorLaunchFailure,
                "missing barrier: read of shared memory that thread " +
                    std::to_string(write_.thread) + " of the block wrote");
  }
  Trace read = trace_of_the_running_thread();
  if (may_clash(read_)) {
    const bool same_warp = read_.thread / kWarpSize == read.thread / kWarpSize;
    read.scope =
        same_warp && read_.scope != Scope::kBlock ? Scope::kOneWarp : Scope::kBlock;
  }
  read_ = read;
}

void SharedHistory::on_write() {
  if (write_.barriers >= kOutOfBounds) raise_if_closed("write to");
  if (may_clash(write_)) {
    raise_fault(cudaErrorLaunchFailure,
                "missing barrier: write to shared memory that thread " +
                    std::to_string(write_.thread) + " of the block wrote");
  }
  if (may_clash(read_)) {
    raise_fault(cudaErrorLaunchFailure,
                "missing barrier: write to shared memory that thread " +
                    std::to_string(read_.thread) + " of the block read");
  }
  write_ = trace_of_the_running_thread();
}

void SharedHistory::on_start_of_copy() {
  on_write();
  write_.barriers = kUnderWay;
  write_.syncs = barriers_at_start_of_block();
}

void SharedHistory::on_arrival() { write_ = trace_of_the_running_thread(); }

void SharedHistory::mark_out_of_bounds() { write_.barriers = kOutOfBounds; }

}  // namespace emulator
