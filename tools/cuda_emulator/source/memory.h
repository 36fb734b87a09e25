// The device's memory, as the runtime API needs it.
#pragma once

#include <cstddef>
#include <string>

namespace emulator {

// Null where the limit allows no more.
void* allocate(size_t size);
// False where the address is not that of an allocation.
bool release(void* address);
size_t bytes_allocated();
size_t memory_limit();

// Each returns what is wrong with the arguments, or nothing.
std::string copy_to_device(void* to, const void* from, size_t size);
std::string copy_to_host(void* to, const void* from, size_t size);
std::string copy_on_device(void* to, const void* from, size_t size);
std::string fill(void* address, int byte, size_t size);

// What this launch writes is told from what earlier ones wrote.
void begin_launch_in_memory();

}  // namespace emulator
