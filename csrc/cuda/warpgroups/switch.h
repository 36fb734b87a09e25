// Whether kernels of warpgroups are asked for: by NEGATIVE_COSINE_WARPGROUPS=1 in the
// environment. They are not used unasked before a device has confirmed them.
#pragma once

#include "core/status.h"

namespace negative_cosine {
namespace cuda {

// The variable is read once, as both passes of a step have to take the same kernels; an
// error where it says something else.
Status find_warpgroups_switch(bool* on);

// After this it is read again.
void forget_warpgroups_switch();

}  // namespace cuda
}  // namespace negative_cosine
