#include "pass_case.h"

#include <algorithm>

namespace negative_cosine {
namespace {

constexpr DataType kDataTypes[] = {DataType::kFloat16, DataType::kBFloat16,
                                   DataType::kFloat32, DataType::kFloat64};
constexpr Source kSources[] = {Source::kShuffle, Source::kRing, Source::kAll,
                               Source::kIndices32, Source::kIndices64};
constexpr Options kOptions[] = {Options::kNone,       Options::kIds,
                                Options::kEverything, Options::kBatch,
                                Options::kFewOutputs, Options::kStrangeValues};

struct Size {
  int64_t batch_size;
  int64_t num_candidates;
  int64_t dim;
  int64_t num_negatives;
};

// An empty batch, one row, one column, whole vectors and odd ends of them, more
// candidates than documents, tiles and blocks that are not full, and so many documents
// that draws are sorted.
constexpr Size kSizes[] = {{0, 3, 4, 2},   {1, 1, 1, 1},     {1, 2, 3, 1},
                           {2, 5, 17, 64}, {3, 7, 129, 3},   {5, 5, 8, 100},
                           {37, 41, 3, 2}, {49, 60, 64, 33}, {4, 150, 9, 5},
                           {3, 9, 513, 3}, {3, 70, 1024, 40}};

// The samplers that draw others without replacement take C - 1 at most.
int64_t negatives_of(Source source, const Size& size) {
  const int64_t others = size.num_candidates - 1;
  if (source == Source::kAll) return others;
  return source == Source::kRing ? std::min(size.num_negatives, others)
                                 : size.num_negatives;
}

const char* name_of(DataType type) {
  switch (type) {
    case DataType::kFloat16:
      return "float16";
    case DataType::kBFloat16:
      return "bfloat16";
    case DataType::kFloat32:
      return "float32";
    case DataType::kFloat64:
      return "float64";
  }
  return "";
}

}  // namespace

bool uses_table(Source source) {
  return source == Source::kIndices32 || source == Source::kIndices64;
}

std::string name_of(const PassCase& pass_case) {
  const char* const sources[] = {"shuffle", "ring", "all", "indices32", "indices64"};
  const char* const options[] = {"no options", "ids",         "everything",
                                 "batch",      "few outputs", "strange values"};
  return std::string(name_of(pass_case.data_type)) + ", " +
         sources[static_cast<int>(pass_case.source)] + ", " +
         options[static_cast<int>(pass_case.options)] +
         ", B=" + std::to_string(pass_case.batch_size) +
         " C=" + std::to_string(pass_case.num_candidates) +
         " D=" + std::to_string(pass_case.dim) +
         " K=" + std::to_string(pass_case.num_negatives);
}

std::vector<PassCase> all_cases() {
  std::vector<PassCase> cases;
  for (const DataType type : kDataTypes) {
    for (const Source source : kSources) {
      for (const Options options : kOptions) {
        for (const Size& size : kSizes) {
          const int64_t negatives = negatives_of(source, size);
          if (negatives < 1 && source == Source::kRing) continue;
          cases.push_back({type, source, options, size.batch_size, size.num_candidates,
                           size.dim, negatives});
        }
      }
    }
  }
  return cases;
}

PassCase large_case(Source source) {
  const Size size = {129, 150, 65, 48};
  return {DataType::kFloat32,  source,   Options::kEverything,      size.batch_size,
          size.num_candidates, size.dim, negatives_of(source, size)};
}

}  // namespace negative_cosine
