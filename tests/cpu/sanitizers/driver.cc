// Runs the core's passes over many cases, each in several ways whose bits must agree,
// and prints how many there were and a checksum of the results; then the same of those
// cases whose bits are alike on every processor. A sanitizer reports what goes wrong
// meanwhile.
//
//   driver                        all of it
//   driver --about                the instruction set alone
//   driver --plant FAULT          a fault, see planted_faults.h
//   driver --short ARRAY SOURCE   one array lacks its last element, see there too
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cpu/kernel_table.h"
#include "cpu/passes.h"
#include "pass_case.h"
#include "pass_memory.h"
#include "planted_faults.h"
#include "ways_to_run.h"

namespace negative_cosine {
namespace {

using Bytes = std::vector<char>;

constexpr Source kSources[] = {Source::kShuffle, Source::kRing, Source::kAll,
                               Source::kIndices32, Source::kIndices64};

void require(bool condition, const std::string& message) {
  if (!condition) throw std::runtime_error(message);
}

void require_ok(const Status& status) { require(status.ok(), status.message()); }

Bytes run_passes(const PassInputs& inputs, const Layout& layout,
                 const ParallelFor& parallel_for) {
  PassOutputs outputs(inputs, layout);
  require_ok(outputs.forward(parallel_for));
  require_ok(outputs.gradient(parallel_for));
  return outputs.contents();
}

// The table that the sampler draws, empty where the caller has one.
Bytes draw_table(const PassInputs& inputs, const ParallelFor& parallel_for) {
  LossParams params = inputs.params();
  if (params.negative_indices != nullptr) return {};
  Arrays memory{Layout{}};
  const int64_t scratch_bytes = cpu::forward_scratch_bytes(params);
  params.scratch = memory.add("forward_scratch", scratch_bytes, 1).data();
  const HeapArray& table =
      memory.add("table", params.batch_size * params.num_negatives, sizeof(int32_t));
  cpu::sample_negatives(params, reinterpret_cast<int32_t*>(table.data()), parallel_for);
  return Bytes(table.data(), table.data() + table.bytes());
}

// FNV-1a, 64 bits.
class Checksum {
 public:
  void add(const Bytes& bytes) {
    ++count_;
    for (const char byte : bytes) {
      value_ = (value_ ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
    }
  }

  void print(const char* of) const {
    std::printf("%s: %d cases, checksum %016llx\n", of, count_,
                static_cast<unsigned long long>(value_));
  }

 private:
  int count_ = 0;
  uint64_t value_ = 0xcbf29ce484222325u;
};

// Whether the portable kernels give the same bits on every processor. Those of float64
// and the softmax over the batch take the C library's functions, whose last bits
// differ, and the sign of NaN is the processor's.
bool is_alike_everywhere(const PassCase& pass_case) {
  return pass_case.data_type != DataType::kFloat64 &&
         pass_case.options != Options::kBatch &&
         pass_case.options != Options::kStrangeValues;
}

// More threads than the machine has.
int many_threads() { return static_cast<int>(std::thread::hardware_concurrency()) + 3; }

// A case's results, which other ways to run it have to repeat.
class Expected {
 public:
  explicit Expected(const PassInputs& inputs)
      : name_(name_of(inputs.pass_case())), bytes_(run_passes(inputs, {}, at_once())) {}

  void check(const char* way, const Bytes& bytes) const {
    require(bytes == bytes_, name_ + ": other bits " + way);
  }

  const Bytes& bytes() const { return bytes_; }

 private:
  std::string name_;
  Bytes bytes_;
};

Bytes check_case(const PassCase& pass_case, ThreadPool* pool) {
  const PassInputs inputs(pass_case);
  const Expected expected(inputs);
  // What is not written, or read before it is written, differs by the fill byte.
  const Layout scattered{false, 0xff, ""};
  expected.check("from other memory, backwards",
                 run_passes(PassInputs(pass_case, scattered), scattered, backwards()));
  expected.check("on three threads", run_passes(inputs, {}, interleaved(3, pool)));

  if (pass_case.options == Options::kStrangeValues) {
    const FlushingThreads flushing;
    expected.check("on threads that flush subnormal numbers",
                   run_passes(inputs, {}, flushing.shared_rows(3, pool)));
  }

  const Bytes table = draw_table(inputs, at_once());
  require(draw_table(inputs, interleaved(3, pool)) == table,
          name_of(pass_case) + ": other tables");
  Bytes results = expected.bytes();
  results.insert(results.end(), table.begin(), table.end());
  return results;
}

// The package's own loop, with so many rows that it asks for helpers.
void check_shared_rows(const PassCase& pass_case, ThreadPool* pool) {
  const PassInputs inputs(pass_case);
  const Expected expected(inputs);
  for (const int num_threads : {1, 2, many_threads()}) {
    expected.check("in shared rows",
                   run_passes(inputs, {}, shared_rows(num_threads, pool)));
  }
  LateHelpers late;
  expected.check("with late helpers", run_passes(inputs, {}, late.parallel_for(2)));
  require(late.count() > 0, "no helper was asked for");
  late.run();
}

// Threads of a user's that call the core at once, on the same inputs.
void check_calls_at_once(Source source, ThreadPool* pool) {
  constexpr int kCalls = 4;
  const PassInputs inputs(large_case(source));
  std::vector<Bytes> results(kCalls);
  std::vector<std::thread> calls;
  for (Bytes& result : results) {
    calls.emplace_back(
        [&] { result = run_passes(inputs, {}, shared_rows(many_threads(), pool)); });
  }
  for (std::thread& call : calls) call.join();
  for (const Bytes& result : results) {
    require(result == results[0], name_of(inputs.pass_case()) + ": other bits at once");
  }
}

// A table with an index that is no document is refused, and nothing is read there.
void check_refused_index(Source source, int64_t index, ThreadPool* pool) {
  const PassInputs inputs(large_case(source));
  LossParams params = inputs.params();
  const bool wide = params.negative_indices_type == IndexType::kInt64;
  Arrays memory{Layout{}};
  const int64_t count = params.batch_size * params.num_negatives;
  const HeapArray& table = memory.add("table", count, wide ? 8 : 4);
  if (wide) {
    reinterpret_cast<int64_t*>(table.data())[count - 1] = index;
  } else {
    reinterpret_cast<int32_t*>(table.data())[count - 1] = static_cast<int32_t>(index);
  }
  params.negative_indices = table.data();
  const ParallelFor parallel_for = interleaved(3, pool);
  const std::string refused = std::to_string(index) + " at position";
  for (const Status& status : {cpu::forward(params, {}, parallel_for),
                               cpu::gradient(params, {}, parallel_for)}) {
    require(status.code() == StatusCode::kInvalidArgument &&
                status.message().find(refused) != std::string::npos,
            "index " + std::to_string(index) + " is not refused: " + status.message());
  }
}

void check_refused_indices(ThreadPool* pool) {
  const int64_t first_behind = large_case(Source::kIndices32).num_candidates;
  for (const int64_t index : {int64_t{-1}, first_behind, int64_t{2147483647}}) {
    check_refused_index(Source::kIndices32, index, pool);
    check_refused_index(Source::kIndices64, index, pool);
  }
  check_refused_index(Source::kIndices64, int64_t{1} << 32, pool);
}

// What a part of a loop throws arrives at the loop's caller.
void check_thrown(ThreadPool* pool) {
  bool caught = false;
  try {
    shared_rows(many_threads(), pool)(1000, 1000, [](int64_t begin, int64_t) {
      if (begin % 2 == 0) throw std::runtime_error("planned");
    });
  } catch (const std::runtime_error&) {
    caught = true;
  }
  require(caught, "nothing was thrown");
}

void run_everything() {
  ThreadPool pool(many_threads());
  // First: the first call chooses the kernels, and here that is four calls.
  for (const Source source : kSources) check_calls_at_once(source, &pool);
  Checksum checksum, alike;
  std::vector<PassCase> cases = all_cases();
  for (const Source source : kSources) {
    cases.push_back(large_case(source));
    check_shared_rows(cases.back(), &pool);
  }
  for (const PassCase& pass_case : cases) {
    const Bytes results = check_case(pass_case, &pool);
    checksum.add(results);
    if (is_alike_everywhere(pass_case)) alike.add(results);
  }
  check_refused_indices(&pool);
  check_thrown(&pool);
  checksum.print(cpu::kernels().name);
  alike.print("alike everywhere");
}

void run(const std::vector<std::string>& arguments) {
  const std::string request = arguments.empty() ? "" : arguments[0];
  if (arguments.empty()) {
    run_everything();
  } else if (request == "--about" && arguments.size() == 1) {
    std::printf("%s\n", cpu::kernels().name);
  } else if (request == "--plant" && arguments.size() == 2) {
    commit(arguments[1]);
  } else if (request == "--short" && arguments.size() == 3) {
    run_with_short_array(arguments[1], arguments[2]);
  } else {
    throw std::invalid_argument("the head of driver.cc lists the arguments");
  }
}

}  // namespace
}  // namespace negative_cosine

int main(int count, char** arguments) {
  try {
    negative_cosine::run({arguments + 1, arguments + count});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return 0;
}
