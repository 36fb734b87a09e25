// What the emulated device can do.
#pragma once

namespace emulator {

// A fault of the running thread where the device is older than that.
void require_capability(int major, int minor, const char* instruction);

// The same where it is any other device: what later ones do not have either.
void require_exact_capability(int major, int minor, const char* instruction);

// 9 for compute capability 9.0.
int device_generation();

}  // namespace emulator
