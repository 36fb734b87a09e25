#include "cpu/layout.h"

#include "cpu/device/aligned_scratch.h"
#include "cpu/draws.h"

namespace negative_cosine::cpu {
namespace {

// Hands out parts of a memory, one behind the other, each aligned.
class Parts {
 public:
  // The offset of the next part.
  int64_t add(int64_t bytes) {
    const int64_t offset = round_up(total_, kScratchAlignment);
    total_ = offset + bytes;
    return offset;
  }

  int64_t total() const { return total_; }

 private:
  int64_t total_ = 0;
};

template <typename Element>
Element* pointer_at(void* memory, int64_t offset) {
  return reinterpret_cast<Element*>(static_cast<char*>(memory) + offset);
}

}  // namespace

ForwardLayout::ForwardLayout(const LossParams& params) {
  Parts parts;
  keys = parts.add(key_table_bytes(params));
  ring = parts.add(ring_bytes(params));
  query_inverse_norms =
      parts.add(params.batch_size * compute_size_of(params.data_type));
  total = parts.total();
}

ForwardScratch ForwardLayout::at(void* memory) const {
  return {pointer_at<uint32_t>(memory, keys), pointer_at<int32_t>(memory, ring),
          pointer_at<char>(memory, query_inverse_norms)};
}

GradientLayout::GradientLayout(const LossParams& params) {
  // Of as many numbers as SavedRow and RowCoefficients have.
  const int64_t reals = params.batch_size * compute_size_of(params.data_type);
  const bool has_table = needs_inverted_table(params);
  const int64_t docs = has_table ? params.num_candidates + 1 : 0;
  const int64_t pairs = has_table ? inverted_table_rows(params) : 0;
  Parts parts;
  saved_rows = parts.add(4 * reals);
  row_coefficients = parts.add(2 * reals);
  keys = parts.add(key_table_bytes(params));
  ring = parts.add(ring_bytes(params));
  table_starts = parts.add(docs * int64_t{sizeof(int64_t)});
  table_rows = parts.add(pairs * int64_t{sizeof(int32_t)});
  table_cursors = parts.add(has_table ? inverted_table_cursor_bytes(params) : 0);
  total = parts.total();
}

GradientScratch GradientLayout::at(void* memory) const {
  return {{pointer_at<char>(memory, saved_rows),
           pointer_at<char>(memory, row_coefficients)},
          pointer_at<uint32_t>(memory, keys),
          pointer_at<int32_t>(memory, ring),
          {pointer_at<int64_t>(memory, table_starts),
           pointer_at<int32_t>(memory, table_rows),
           pointer_at<char>(memory, table_cursors)}};
}

}  // namespace negative_cosine::cpu
