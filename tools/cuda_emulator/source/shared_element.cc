// Two accesses of one element clash when at least one is a write, two threads make
// them, and nothing orders them: no __syncthreads in between and, within a warp, no
// __syncwarp of all its lanes. Shuffles and votes order nothing, by CUDA's definition.
#include "emulation/shared_element.h"

#include <string>

#include "block.h"
#include "fault.h"

namespace emulator {

bool SharedHistory::may_clash(const Trace& earlier) {
  if (earlier.barriers != now.barriers) return false;
  if (earlier.scope == Scope::kBlock) return true;
  if (earlier.thread / kWarpSize != now.thread / kWarpSize) return true;
  if (earlier.syncs != now.syncs) return false;
  return earlier.scope == Scope::kOneWarp || earlier.thread != now.thread;
}

// An element that is out of bounds, or whose copy belongs to this block: a launch that
// ended in a fault leaves others under way, which the next one may write.
void SharedHistory::raise_if_closed(const char* access) const {
  if (write_.barriers == kOutOfBounds) {
    raise_fault(cudaErrorLaunchFailure,
                std::string(access) + " shared memory beyond the ends of an array");
  }
  if (write_.barriers == kUnderWay &&
      read_.barriers == now.barriers_at_start_of_block) {
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

void SharedHistory::check_read_after_write() const {
  if (!may_clash(write_)) return;
  raise_fault(cudaErrorLaunchFailure,
              "missing barrier: read of shared memory that thread " +
                  std::to_string(write_.thread) + " of the block wrote");
}

void SharedHistory::add_reader() {
  Trace read = trace_of_the_running_thread();
  if (may_clash(read_)) {
    const bool same_warp = read_.thread / kWarpSize == read.thread / kWarpSize;
    read.scope = same_warp ? Scope::kOneWarp : Scope::kBlock;
  }
  read_ = read;
}

void SharedHistory::check_write() const {
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
}

// Nobody reads meanwhile: the trace of that tells whose block the copy is.
void SharedHistory::on_start_of_copy() {
  on_write();
  write_.barriers = kUnderWay;
  read_ = {now.barriers_at_start_of_block, 0, 0, Scope::kOneThread};
}

void SharedHistory::on_arrival() {
  write_ = trace_of_the_running_thread();
  read_ = {};
}

}  // namespace emulator
