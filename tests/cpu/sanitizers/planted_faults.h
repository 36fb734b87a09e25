// Faults that a sanitizer has to find, on purpose: in the driver itself, and in the
// core's kernels by what the driver hands them.
#pragma once

#include <string>

namespace negative_cosine {

// Commits the named fault, or throws the list of names.
void commit(const std::string& fault);

// Runs a case on arrays of which the named one lacks its last element, with the
// candidates of the named source: the core reads or writes behind it.
void run_with_short_array(const std::string& array, const std::string& source);

}  // namespace negative_cosine
