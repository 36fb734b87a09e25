// Two accesses of one element clash when at least one is a write, two threads make
// them, and nothing orders them: no __syncthreads in between and, within a warp, no
// __syncwarp of all its lanes. Shuffles and votes order nothing, by CUDA's definition.
// What else orders threads is in source/order.h.
#include "emulation/shared_element.h"

#include <string>

#include "block.h"
#include "fault.h"
#include "order.h"
#include "readers.h"

namespace emulator {

bool SharedHistory::may_clash(const Trace& earlier) {
  if (earlier.barriers != now.barriers) return false;
  // Several threads' reads without a list came before the launch's first order.
  if (order_is_kept) {
    return earlier.scope == Scope::kOneThread &&
           !happened_before(earlier.thread, earlier.syncs);
  }
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
  if (write_.barriers == kArrivalBarrier &&
      read_.barriers == now.barriers_at_start_of_block) {
    raise_fault(cudaErrorLaunchFailure,
                std::string(access) + " shared memory that is an arrival barrier");
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
  if (order_is_kept) return list_reader();
  Trace read = trace_of_the_running_thread();
  if (may_clash(read_)) {
    const bool same_warp = read_.thread / kWarpSize == read.thread / kWarpSize;
    read.scope = same_warp ? Scope::kOneWarp : Scope::kBlock;
  }
  read_ = read;
}

// One reader needs no list, nor do earlier ones that came before it.
void SharedHistory::list_reader() {
  const Trace read = trace_of_the_running_thread();
  if (read_.scope != Scope::kListed) {
    if (!may_clash(read_)) {
      read_ = read;
      return;
    }
    const uint32_t number = new_list_of_readers();
    if (read_.scope == Scope::kOneThread) {
      list_of_readers(number).add({read_.thread, read_.syncs});
    }
    read_ = {now.barriers, number, kNobody, Scope::kListed};
  }
  list_of_readers(read_.syncs).add({read.thread, read.syncs});
}

void SharedHistory::raise_write_after_read(unsigned reader, uint32_t clock) {
  if (reader < kFirstProducts) {
    raise_fault(cudaErrorLaunchFailure,
                "missing barrier: write to shared memory that thread " +
                    std::to_string(reader) + " of the block read");
  }
  const unsigned warp = warp_of_thread(reader);
  const bool is_under_way = clock >= finished_products(warp);
  raise_fault(
      cudaErrorLaunchFailure,
      std::string(is_under_way ? "missing wait_for_products" : "missing barrier") +
          ": write to shared memory that a product of warp " + std::to_string(warp) +
          (is_under_way ? " reads" : " read"));
}

void SharedHistory::check_listed_readers() {
  const auto reader = list_of_readers(read_.syncs).unordered();
  if (reader) raise_write_after_read(reader->thread, reader->clock);
  free_list_of_readers(read_.syncs);
  read_ = {};
}

void SharedHistory::check_write() {
  if (may_clash(write_)) {
    raise_fault(cudaErrorLaunchFailure,
                "missing barrier: write to shared memory that thread " +
                    std::to_string(write_.thread) + " of the block wrote");
  }
  if (read_.scope == Scope::kListed && read_.barriers == now.barriers) {
    return check_listed_readers();
  }
  if (may_clash(read_)) raise_write_after_read(read_.thread, read_.syncs);
}

// Nobody reads meanwhile: the trace of that tells whose block the copy is.
void SharedHistory::on_start_of_copy() {
  on_write();
  write_.barriers = kUnderWay;
  read_ = {now.barriers_at_start_of_block, 0, 0, Scope::kOneThread};
}

void SharedHistory::on_set_up_of_barrier() {
  on_write();
  write_.barriers = kArrivalBarrier;
  read_ = {now.barriers_at_start_of_block, 0, 0, Scope::kOneThread};
}

void SharedHistory::on_read_by_product() {
  on_read();
  if (was_shown(write_.thread, write_.syncs)) return;
  raise_fault(cudaErrorLaunchFailure,
              "missing show_writes_to_products: product of shared memory that thread " +
                  std::to_string(write_.thread) + " of the block wrote");
}

void SharedHistory::on_arrival() {
  write_ = trace_of_the_running_thread();
  read_ = {};
}

}  // namespace emulator
