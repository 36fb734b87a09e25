#include "planted_faults.h"
namespace planted {
const std::vector<Entry>& warpgroup_entries() {
  static const std::vector<Entry> entries;
  return entries;
}
}  // namespace planted
