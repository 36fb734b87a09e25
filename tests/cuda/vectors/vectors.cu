// A kernel for each instruction, which calls the function that the product's kernels
// call: csrc/cuda/device and csrc/core.
//
// `tests/kernels/vectors.py` chooses operands. A device's results are recorded once;
// from then on the emulator has to give the same.
#include <cuda_runtime.h>

#include <cstring>
#include <utility>

#include "core/data_type.h"
#include "core/math.h"
#include "core/norms.h"
#include "cuda/device/arithmetic.cuh"
#include "cuda/device/instructions.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/packets.cuh"
#include "cuda/device/shared_arrays.cuh"
#include "cuda/device/warp.cuh"
#include "vectors.h"

namespace vectors {
namespace {

using namespace negative_cosine;
using namespace negative_cosine::cuda;

// Neighbouring numbers: an operand or a result of several.
template <typename Value, int kCount>
struct Several {
  Value values[kCount];
};
template <int kCount>
using Words = Several<uint32_t, kCount>;

// --- Operands and results in memory -------------------------------------------------

// An instruction gets an operand's value, or its address where it reads memory itself.
template <typename Parameter>
struct Operand {
  using Stored = Parameter;
  __device__ static Parameter load(const Stored* from) { return __ldg(from); }
};
template <typename Value, int kCount>
struct Operand<Several<Value, kCount>> {
  using Stored = Several<Value, kCount>;
  __device__ static Stored load(const Stored* from) {
    const auto* values = reinterpret_cast<const Value*>(from);
    Stored loaded;
    for (int i = 0; i < kCount; ++i) loaded.values[i] = __ldg(values + i);
    return loaded;
  }
};
template <typename Pointed>
struct Operand<const Pointed*> {
  using Stored = Pointed;
  __device__ static const Stored* load(const Stored* from) { return from; }
};

template <typename Value>
__device__ void store(Value value, Value* to) {
  __stcs(to, value);
}
template <typename Value, int kCount>
__device__ void store(const Several<Value, kCount>& several,
                      Several<Value, kCount>* to) {
  auto* values = reinterpret_cast<Value*>(to);
  for (int i = 0; i < kCount; ++i) __stcs(values + i, several.values[i]);
}

// --- Products of matrices -----------------------------------------------------------

template <typename Factor>
struct MultiplyMatrices {
  __device__ static Several<float, 4> apply(Words<4> left, Words<2> right,
                                            Several<float, 4> sums) {
    multiply_matrices(left.values, right.values[0], right.values[1], Factor{},
                      sums.values);
    return sums;
  }
};

// --- Loads of matrices --------------------------------------------------------------

constexpr int kPacketBytes = 16;

// Every lane writes a row of 16 bytes and gets the address of the row `place`.
template <typename Element>
__device__ const SharedElement<Element>* exchange_rows(const Words<4>& row, int place) {
  constexpr int kCount = kPacketBytes / static_cast<int>(sizeof(Element));
  SharedArrays arrays;
  auto* rows = arrays.take<Element>(kThreadsOfWarp * kCount);
  Element elements[kCount];
  std::memcpy(elements, row.values, sizeof elements);
  for (int e = 0; e < kCount; ++e) rows[lane_of_thread() * kCount + e] = elements[e];
  __syncwarp();
  return rows + place * kCount;
}

template <typename Element>
struct LoadMatrices {
  __device__ static Words<4> apply(Words<4> row, int place) {
    Words<4> matrices;
    load_matrices<Element>(exchange_rows<Element>(row, place), matrices.values);
    return matrices;
  }
};

template <typename Element>
struct LoadTransposed {
  __device__ static Words<4> apply(Words<4> row, int place) {
    Words<4> matrices;
    load_transposed<Element>(exchange_rows<Element>(row, place), matrices.values);
    return matrices;
  }
};

// --- Asynchronous copies ------------------------------------------------------------

// What is not wanted comes from where no memory is: whoever reads it stops.
constexpr int64_t kNowhere = int64_t{1} << 40;

template <int kBytes>
__device__ void copy_if(bool wanted, const Words<kBytes / 4>* from,
                        SharedElement<uint32_t>* to) {
  const char* source = reinterpret_cast<const char*>(from);
  copy_async<kBytes>(to, wanted ? source : source + kNowhere, wanted);
}

// Two copies of a lane, the second under way while its neighbour reads the first. Where
// they go, ones stood before.
template <int kBytes>
struct CopyAsync {
  static constexpr int kWords = kBytes / 4;

  __device__ static Words<2 * kWords> apply(const Words<kWords>* first,
                                            const Words<kWords>* second, int wanted) {
    const int lane = lane_of_thread();
    SharedArrays arrays;
    auto* words = arrays.take<uint32_t>(2 * kThreadsOfWarp * kWords);
    auto* behind = words + kThreadsOfWarp * kWords;
    for (int w = 0; w < kWords; ++w) {
      words[lane * kWords + w] = ~0u;
      behind[lane * kWords + w] = ~0u;
    }
    __syncwarp();
    copy_if<kBytes>((wanted & 1) != 0, first, words + lane * kWords);
    commit_copies();
    copy_if<kBytes>((wanted & 2) != 0, second, behind + lane * kWords);
    commit_copies();

    const int neighbour = lane ^ 1;
    Words<2 * kWords> copied;
    wait_for_copies<1>();
    __syncwarp();
    for (int w = 0; w < kWords; ++w) copied.values[w] = words[neighbour * kWords + w];
    wait_for_copies<0>();
    __syncwarp();
    for (int w = 0; w < kWords; ++w) {
      copied.values[kWords + w] = behind[neighbour * kWords + w];
    }
    return copied;
  }
};

// --- Conversions --------------------------------------------------------------------

struct RoundToTf32 {
  __device__ static uint32_t apply(float value) { return round_to_tf32(value); }
};

template <typename Element>
struct RoundPair {
  __device__ static uint32_t apply(float low, float high) {
    return round_pair(low, high, Element{});
  }
};

template <typename Element>
struct RoundTo {
  __device__ static uint32_t apply(float value) {
    Element rounded;
    round_to(value, &rounded);
    return rounded.bits;
  }
};

struct HalfToFloat {
  __device__ static float apply(uint32_t bits) { return half_to_float(bits); }
};

template <typename Element>
struct UnpackPair {
  __device__ static Several<float, 2> apply(uint32_t pair) {
    Several<float, 2> unpacked;
    unpack_pair(pair, Element{}, unpacked.values);
    return unpacked;
  }
};

template <typename Element>
struct Unpack {
  static constexpr int kCount = kPacketBytes / static_cast<int>(sizeof(Element));
  using Numbers = Several<ComputeType<Element>, kCount>;

  __device__ static Numbers apply(Words<4> packet) {
    const uint32_t (&words)[4] = packet.values;
    Numbers unpacked;
    unpack(make_uint4(words[0], words[1], words[2], words[3]),
           static_cast<const Element*>(nullptr), unpacked.values);
    return unpacked;
  }
};

// --- Functions of real numbers ------------------------------------------------------

struct ApproximateExp2 {
  __device__ static float apply(float power) { return approximate_exp2(power); }
};
template <typename Real>
struct ExpOf {
  __device__ static Real apply(Real x) { return exp_of(x); }
};
template <typename Real>
struct Expm1Of {
  __device__ static Real apply(Real x) { return expm1_of(x); }
};
template <typename Real>
struct LogOf {
  __device__ static Real apply(Real x) { return log_of(x); }
};
template <typename Real>
struct Log1pOf {
  __device__ static Real apply(Real x) { return log1p_of(x); }
};
template <typename Real>
struct SqrtOf {
  __device__ static Real apply(Real x) { return sqrt_of(x); }
};
template <typename Real>
struct InverseNormOf {
  __device__ static Real apply(Real squares) { return inverse_norm_of(squares); }
};
template <typename Real>
struct Quotient {
  __device__ static Real apply(Real left, Real right) { return left / right; }
};
template <typename Real>
struct MultiplyAdd {
  __device__ static Real apply(Real left, Real right, Real added) {
    return multiply_add(left, right, added);
  }
};

// --- Exchanges between the lanes of a warp ------------------------------------------

template <typename Value>
struct Shuffle {
  __device__ static Value apply(Value value, int lane) {
    return __shfl_sync(kWholeWarp, value, lane);
  }
};
template <typename Value>
struct ShuffleXor {
  __device__ static Value apply(Value value, int distance) {
    return __shfl_xor_sync(kWholeWarp, value, distance);
  }
};
template <typename Value>
struct ShuffleUp {
  __device__ static Value apply(Value value, int distance) {
    return __shfl_up_sync(kWholeWarp, value, static_cast<unsigned>(distance));
  }
};
struct Ballot {
  __device__ static uint32_t apply(int vote) { return __ballot_sync(kWholeWarp, vote); }
};
struct Any {
  __device__ static int apply(int vote) { return __any_sync(kWholeWarp, vote) != 0; }
};
struct MatchAny {
  __device__ static uint32_t apply(uint32_t value) {
    return __match_any_sync(kWholeWarp, value);
  }
};

// --- Kernels and their launches -----------------------------------------------------

template <typename Kind, typename Result, typename... Parameters>
__global__ void run(Result* results,
                    const typename Operand<Parameters>::Stored*... operands) {
  const int64_t thread = int64_t{blockIdx.x} * kThreadsOfWarp + threadIdx.x;
  store(Kind::apply(Operand<Parameters>::load(operands + thread)...), results + thread);
}

// The most that a kernel takes: two arrays of packets.
constexpr int kSharedBytes = 2 * kThreadsOfWarp * kPacketBytes;

template <typename Kind, typename Result, typename... Parameters, size_t... kNumbers>
cudaError_t launch_kind(const Addresses& addresses, int64_t warps,
                        std::index_sequence<kNumbers...>) {
  return launch_with_memory(run<Kind, Result, Parameters...>, warps, kThreadsOfWarp,
                            kSharedBytes, nullptr,
                            static_cast<Result*>(addresses.result),
                            static_cast<const typename Operand<Parameters>::Stored*>(
                                addresses.operands[kNumbers])...);
}

// The null pointer says what Kind::apply takes and gives: a device function's address
// means nothing to the host.
template <typename Kind, typename Result, typename... Parameters>
Instruction describe(const char* name, Result (*)(Parameters...)) {
  static_assert(sizeof...(Parameters) <= kMostOperands);
  return {name,
          {static_cast<int64_t>(sizeof(typename Operand<Parameters>::Stored))...},
          static_cast<int64_t>(sizeof(Result)),
          [](const Addresses& addresses, int64_t warps) {
            return launch_kind<Kind, Result, Parameters...>(
                addresses, warps, std::index_sequence_for<Parameters...>{});
          }};
}

template <typename Kind>
Instruction named(const char* name) {
  return describe<Kind>(name, static_cast<decltype(&Kind::apply)>(nullptr));
}

__global__ void nothing() {}

}  // namespace

cudaError_t launch_nothing(cudaStream_t stream) {
  return negative_cosine::cuda::launch(nothing, 1, kThreadsOfWarp, stream);
}

const std::vector<Instruction>& instructions() {
  static const std::vector<Instruction> all = {
      named<MultiplyMatrices<Float16>>("multiply_matrices.float16"),
      named<MultiplyMatrices<BFloat16>>("multiply_matrices.bfloat16"),
      named<MultiplyMatrices<Tf32>>("multiply_matrices.tf32"),
      named<LoadMatrices<Float16>>("load_matrices.float16"),
      named<LoadMatrices<BFloat16>>("load_matrices.bfloat16"),
      named<LoadMatrices<float>>("load_matrices.float32"),
      named<LoadTransposed<Float16>>("load_transposed.float16"),
      named<LoadTransposed<BFloat16>>("load_transposed.bfloat16"),
      named<RoundToTf32>("round_to_tf32"),
      named<RoundPair<Float16>>("round_pair.float16"),
      named<RoundPair<BFloat16>>("round_pair.bfloat16"),
      named<RoundTo<Float16>>("round_to.float16"),
      named<RoundTo<BFloat16>>("round_to.bfloat16"),
      named<HalfToFloat>("half_to_float"),
      named<UnpackPair<Float16>>("unpack_pair.float16"),
      named<UnpackPair<BFloat16>>("unpack_pair.bfloat16"),
      named<Unpack<Float16>>("unpack.float16"),
      named<Unpack<BFloat16>>("unpack.bfloat16"),
      named<Unpack<float>>("unpack.float32"),
      named<Unpack<double>>("unpack.float64"),
      named<ApproximateExp2>("approximate_exp2"),
      named<ExpOf<float>>("exp_of.float32"),
      named<ExpOf<double>>("exp_of.float64"),
      named<Expm1Of<float>>("expm1_of.float32"),
      named<Expm1Of<double>>("expm1_of.float64"),
      named<LogOf<float>>("log_of.float32"),
      named<LogOf<double>>("log_of.float64"),
      named<Log1pOf<float>>("log1p_of.float32"),
      named<Log1pOf<double>>("log1p_of.float64"),
      named<SqrtOf<float>>("sqrt_of.float32"),
      named<SqrtOf<double>>("sqrt_of.float64"),
      named<InverseNormOf<float>>("inverse_norm_of.float32"),
      named<InverseNormOf<double>>("inverse_norm_of.float64"),
      named<Quotient<float>>("quotient.float32"),
      named<Quotient<double>>("quotient.float64"),
      named<MultiplyAdd<float>>("multiply_add.float32"),
      named<MultiplyAdd<double>>("multiply_add.float64"),
      named<Shuffle<float>>("shuffle.float32"),
      named<Shuffle<double>>("shuffle.float64"),
      named<ShuffleXor<float>>("shuffle_xor.float32"),
      named<ShuffleXor<double>>("shuffle_xor.float64"),
      named<ShuffleUp<long long>>("shuffle_up.int64"),
      named<Ballot>("ballot"),
      named<Any>("any"),
      named<MatchAny>("match_any"),
      // Last: where what is not wanted is read, the device gives up for good.
      named<CopyAsync<4>>("copy_async.4"),
      named<CopyAsync<8>>("copy_async.8"),
      named<CopyAsync<16>>("copy_async.16"),
  };
  return all;
}

}  // namespace vectors
