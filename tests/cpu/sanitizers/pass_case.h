// What the driver runs: sizes, dtype, where candidates come from, and options.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/params.h"

namespace negative_cosine {

enum class Source { kShuffle, kRing, kAll, kIndices32, kIndices64 };

// What of the interface is in use.
enum class Options {
  kNone,          // the default options, every output
  kIds,           // doc_ids and query_ids, the row's own document counts
  kEverything,    // ids, logQ, weights and a margin, no reduction
  kBatch,         // NormalizeOver::kBatch, with logQ and weights
  kFewOutputs,    // no statistics, no gradient but query's, in its direction's place
  kStrangeValues  // rows of zeros, and rows with infinity, NaN and large numbers
};

struct PassCase {
  DataType data_type;
  Source source;
  Options options;
  int64_t batch_size;
  int64_t num_candidates;
  int64_t dim;
  int64_t num_negatives;
};

std::string name_of(const PassCase& pass_case);

bool uses_table(Source source);

// Every dtype, source and option with every size that they permit.
std::vector<PassCase> all_cases();

// Enough rows for the core to share its loops between threads.
PassCase large_case(Source source);

}  // namespace negative_cosine
