// CUDA's runtime API over the emulator's memory and scheduler.
#include "emulation/runtime_api.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "block.h"
#include "device.h"
#include "emulation/emulator.h"
#include "fault.h"
#include "memory.h"
#include "shared_arrays.h"
#include "traffic.h"

using DeviceWork = std::function<cudaError_t()>;

struct CUgraph_st {
  std::vector<DeviceWork> nodes;
};
struct CUgraphExec_st {
  std::vector<DeviceWork> nodes;
};
struct CUstream_st {
  CUgraph_st* graph = nullptr;  // that it is recorded into
  bool is_spoilt = false;       // what nobody may do meanwhile was done
};
struct CUevent_st {
  std::chrono::steady_clock::time_point time;
};

namespace emulator {
namespace {

constexpr int kThreadsOfMultiprocessor = 2048;
constexpr int kL2CacheBytes = 4 << 20;
constexpr int kSharedMemoryBytes = 48 << 10;
constexpr int kMaxGridX = 0x7fffffff;
constexpr int kMaxGridYZ = 65535;
constexpr unsigned kMaxBlockZ = 64;

int capability_major = 9;
int capability_minor = 0;
int multiprocessors = kUsualMultiprocessors;
int code_version = 90;
int driver_version = CUDART_VERSION;

std::function<void()> forget_device = [] {};

// What each kernel may ask for at a launch, where that is more than any kernel may.
std::unordered_map<const void*, int> dynamic_shared_bytes;

// As the programming guide's table of compute capabilities has it.
int most_shared_bytes() {
  constexpr int kKibibyte = 1 << 10;
  switch (10 * capability_major + capability_minor) {
    case 70:
    case 72:
      return 96 * kKibibyte;
    case 75:
      return 64 * kKibibyte;
    case 80:
    case 87:
      return 163 * kKibibyte;
    case 86:
    case 89:
    case 120:
    case 121:
      return 99 * kKibibyte;
    case 90:
    case 100:
    case 103:
    case 110:
      return 227 * kKibibyte;
    default:
      return kSharedMemoryBytes;
  }
}

int dynamic_shared_bytes_of(const void* kernel) {
  const auto found = dynamic_shared_bytes.find(kernel);
  return found == dynamic_shared_bytes.end() ? kSharedMemoryBytes : found->second;
}

cudaError_t last_error = cudaSuccess;
// What the last failure was, where there is more to say than its name.
cudaError_t explained_error = cudaSuccess;
std::string explanation;

cudaError_t fail(cudaError_t error, const std::string& why) {
  last_error = explained_error = error;
  explanation = why;
  return error;
}

cudaError_t fail_if(const std::string& problem) {
  return problem.empty() ? cudaSuccess : fail(cudaErrorInvalidValue, problem);
}

// Within a generation of CUDA drivers run what newer toolkits have built.
bool has_driver() { return driver_version / 1000 >= CUDART_VERSION / 1000; }

cudaError_t fail_unless_only_device(int device) {
  if (!has_driver()) {
    return fail(cudaErrorInsufficientDriver,
                "CUDA driver version is insufficient for CUDA runtime version");
  }
  if (device == 0) return cudaSuccess;
  return fail(cudaErrorInvalidDevice, "there is no device " + std::to_string(device));
}

// The streams that are recorded.
std::vector<CUstream_st*> recorded_streams;

// Waiting for a stream that is recorded, or for all, would wait for ever.
cudaError_t fail_if_recorded(cudaStream_t stream, const std::string& call) {
  for (CUstream_st* recorded : recorded_streams) {
    if (stream != nullptr && stream != recorded) continue;
    recorded->is_spoilt = true;
    return fail(cudaErrorStreamCaptureUnsupported,
                call + " while a stream is recorded into a graph");
  }
  return cudaSuccess;
}

// Now, or when the graph is launched that the stream is recorded into.
cudaError_t put_on(cudaStream_t stream, DeviceWork work) {
  if (stream == nullptr || stream->graph == nullptr) return work();
  stream->graph->nodes.push_back(std::move(work));
  return cudaSuccess;
}

// What a call that waits for the device reports: a kernel's fault, no other call's
// error.
cudaError_t fault_not_yet_seen() {
  switch (last_error) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorLaunchFailure:
      return last_error;
    default:
      return cudaSuccess;
  }
}

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* meaning;
};

constexpr ErrorText kErrorTexts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError",
     "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction",
     "invalid device function"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorUnsupportedPtxVersion, "cudaErrorUnsupportedPtxVersion",
     "the provided PTX was compiled with an unsupported toolchain."},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle",
     "invalid resource handle"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in the present state"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const ErrorText& text_of(cudaError_t error) {
  for (const ErrorText& text : kErrorTexts) {
    if (text.error == error) return text;
  }
  return kErrorTexts[std::size(kErrorTexts) - 1];
}

bool is_possible(const dim3& grid, const dim3& block) {
  return count_of(grid) > 0 && grid.x <= kMaxGridX && grid.y <= kMaxGridYZ &&
         grid.z <= kMaxGridYZ && count_of(block) > 0 &&
         count_of(block) <= kMaxThreads && block.z <= kMaxBlockZ;
}

}  // namespace

void require_capability(int major, int minor, const char* instruction) {
  if (capability_major > major ||
      (capability_major == major && capability_minor >= minor)) {
    return;
  }
  raise_fault(cudaErrorLaunchFailure,
              std::string(instruction) + " needs compute capability " +
                  std::to_string(major) + "." + std::to_string(minor));
}

void require_exact_capability(int major, int minor, const char* instruction) {
  if (capability_major == major && capability_minor == minor) return;
  raise_fault(cudaErrorLaunchFailure,
              std::string(instruction) + " needs compute capability " +
                  std::to_string(major) + "." + std::to_string(minor) + " itself");
}

int device_generation() { return capability_major; }

void set_capability(int major, int minor) {
  capability_major = major;
  capability_minor = minor;
  set_code_version(10 * major + minor);
}

void set_multiprocessors(int count) {
  multiprocessors = count;
  forget_device();
}

void set_code_version(int version) {
  code_version = version;
  forget_device();
}

void set_driver_version(int version) {
  driver_version = version;
  forget_device();
}

void on_other_device(std::function<void()> forget) {
  forget_device = std::move(forget);
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel,
                   std::function<void()> thread) {
  count_call("cudaLaunchKernelEx");
  if (!is_possible(config.gridDim, config.blockDim)) {
    return fail(cudaErrorInvalidConfiguration,
                text_of(cudaErrorInvalidConfiguration).meaning);
  }
  if (config.numAttrs != 0) {
    return fail(cudaErrorNotSupported, "the emulator has no launch attributes");
  }
  // A device counts what the kernel declares as well, which is not known here.
  const auto allowed = static_cast<size_t>(
      std::min(dynamic_shared_bytes_of(kernel), most_shared_bytes()));
  if (config.dynamicSmemBytes > allowed) {
    return fail(cudaErrorInvalidValue,
                "the launch asks for " + std::to_string(config.dynamicSmemBytes) +
                    " bytes of shared memory and may have " + std::to_string(allowed) +
                    ": cudaFuncSetAttribute allows a kernel more");
  }
  return put_on(config.stream, [config, thread = std::move(thread)] {
    begin_launch_in_shared_arrays(config.dynamicSmemBytes);
    begin_launch_in_memory();
    begin_launch_in_traffic(config);
    try {
      run_grid(config.gridDim, config.blockDim, thread);
    } catch (const Fault& fault) {
      return fail(fault.error, fault.message);
    }
    return cudaSuccess;
  });
}

}  // namespace emulator

using emulator::fail;
using emulator::fail_if;
using emulator::fail_if_recorded;
using emulator::fail_unless_only_device;

// --- Errors ------------------------------------------------------------------------

const char* cudaGetErrorString(cudaError_t error) {
  if (error != cudaSuccess && error == emulator::explained_error) {
    return emulator::explanation.c_str();
  }
  return emulator::text_of(error).meaning;
}

const char* cudaGetErrorName(cudaError_t error) {
  return emulator::text_of(error).name;
}

cudaError_t cudaGetLastError() {
  emulator::count_call(__func__);
  return std::exchange(emulator::last_error, cudaSuccess);
}

cudaError_t cudaPeekAtLastError() {
  emulator::count_call(__func__);
  return emulator::last_error;
}

// --- The device --------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  emulator::count_call(__func__);
  *count = emulator::has_driver() ? 1 : 0;
  return fail_unless_only_device(0);
}

cudaError_t cudaGetDevice(int* device) {
  emulator::count_call(__func__);
  *device = 0;
  return fail_unless_only_device(0);
}

cudaError_t cudaSetDevice(int device) {
  emulator::count_call(__func__);
  return fail_unless_only_device(device);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  emulator::count_call(__func__);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = emulator::kMaxThreads;
      break;
    case cudaDevAttrMaxGridDimX:
      *value = emulator::kMaxGridX;
      break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      *value = emulator::kMaxGridYZ;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = emulator::kSharedMemoryBytes;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = emulator::most_shared_bytes();
      break;
    case cudaDevAttrWarpSize:
      *value = warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = emulator::multiprocessors;
      break;
    case cudaDevAttrL2CacheSize:
      *value = emulator::kL2CacheBytes;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = emulator::kThreadsOfMultiprocessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = emulator::capability_major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = emulator::capability_minor;
      break;
    default:
      return fail(cudaErrorInvalidValue, "the emulator does not know this attribute");
  }
  return fail_unless_only_device(device);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  emulator::count_call(__func__);
  *properties = {};
  std::strncpy(properties->name, "emulated device", sizeof properties->name - 1);
  properties->totalGlobalMem = emulator::memory_limit();
  properties->sharedMemPerBlock = emulator::kSharedMemoryBytes;
  properties->sharedMemPerBlockOptin =
      static_cast<size_t>(emulator::most_shared_bytes());
  properties->warpSize = warpSize;
  properties->maxThreadsPerBlock = emulator::kMaxThreads;
  properties->maxGridSize[0] = emulator::kMaxGridX;
  properties->maxGridSize[1] = properties->maxGridSize[2] = emulator::kMaxGridYZ;
  properties->major = emulator::capability_major;
  properties->minor = emulator::capability_minor;
  properties->multiProcessorCount = emulator::multiprocessors;
  properties->maxThreadsPerMultiProcessor = emulator::kThreadsOfMultiprocessor;
  properties->l2CacheSize = emulator::kL2CacheBytes;
  return fail_unless_only_device(device);
}

cudaError_t cudaDeviceSynchronize() {
  emulator::count_call(__func__);
  const cudaError_t error = fail_if_recorded(nullptr, "cudaDeviceSynchronize");
  return error == cudaSuccess ? emulator::fault_not_yet_seen() : error;
}

cudaError_t cudaDriverGetVersion(int* version) {
  emulator::count_call(__func__);
  *version = emulator::driver_version;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  emulator::count_call(__func__);
  *version = CUDART_VERSION;
  return cudaSuccess;
}

// --- Memory ------------------------------------------------------------------------

cudaError_t cudaMalloc(void** address, size_t size) {
  emulator::count_call(__func__);
  *address = size == 0 ? nullptr : emulator::allocate(size);
  const cudaError_t error = fail_unless_only_device(0);
  if (error != cudaSuccess || size == 0 || *address != nullptr) return error;
  return fail(cudaErrorMemoryAllocation,
              emulator::text_of(cudaErrorMemoryAllocation).meaning);
}

cudaError_t cudaFree(void* address) {
  emulator::count_call(__func__);
  if (address == nullptr || emulator::release(address)) return cudaSuccess;
  return fail(cudaErrorInvalidValue, "cudaFree of an address that is not allocated");
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  emulator::count_call(__func__);
  *total = emulator::memory_limit();
  *free = *total - std::min(*total, emulator::bytes_allocated());
  return cudaSuccess;
}

static cudaError_t copy_now(void* to, const void* from, size_t size,
                            cudaMemcpyKind kind) {
  if (size == 0) return cudaSuccess;
  switch (kind) {
    case cudaMemcpyHostToHost:
      std::memcpy(to, from, size);
      return cudaSuccess;
    case cudaMemcpyHostToDevice:
      return fail_if(emulator::copy_to_device(to, from, size));
    case cudaMemcpyDeviceToHost:
      return fail_if(emulator::copy_to_host(to, from, size));
    case cudaMemcpyDeviceToDevice:
      return fail_if(emulator::copy_on_device(to, from, size));
  }
  return fail(cudaErrorInvalidValue, "cudaMemcpy of an unknown kind");
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  emulator::count_call(__func__);
  return copy_now(to, from, size, kind);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size,
                            cudaMemcpyKind kind, cudaStream_t stream) {
  emulator::count_call(__func__);
  return emulator::put_on(stream, [=] { return copy_now(to, from, size, kind); });
}

static cudaError_t fill_now(void* address, int byte, size_t size) {
  if (size == 0) return cudaSuccess;
  return fail_if(emulator::fill(address, byte, size));
}

cudaError_t cudaMemset(void* address, int byte, size_t size) {
  emulator::count_call(__func__);
  return fill_now(address, byte, size);
}

cudaError_t cudaMemsetAsync(void* address, int byte, size_t size, cudaStream_t stream) {
  emulator::count_call(__func__);
  return emulator::put_on(stream, [=] { return fill_now(address, byte, size); });
}

// --- Streams and events ------------------------------------------------------------

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  emulator::count_call(__func__);
  *stream = new CUstream_st();
  return fail_unless_only_device(0);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  emulator::count_call(__func__);
  *stream = new CUstream_st();
  return fail_unless_only_device(0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  emulator::count_call(__func__);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  emulator::count_call(__func__);
  const cudaError_t error = fail_if_recorded(stream, "cudaStreamSynchronize");
  return error == cudaSuccess ? emulator::fault_not_yet_seen() : error;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  emulator::count_call(__func__);
  *event = new CUevent_st();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  emulator::count_call(__func__);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  emulator::count_call(__func__);
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t) {
  emulator::count_call(__func__);
  return emulator::fault_not_yet_seen();
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start,
                                 cudaEvent_t end) {
  emulator::count_call(__func__);
  const std::chrono::duration<float, std::milli> elapsed = end->time - start->time;
  *milliseconds = elapsed.count();
  return cudaSuccess;
}

// --- Graphs ------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  emulator::count_call(__func__);
  if (stream == nullptr) {
    return fail(cudaErrorStreamCaptureUnsupported,
                "the null stream cannot be recorded");
  }
  if (stream->graph != nullptr) {
    return fail(cudaErrorIllegalState, "the stream is being recorded already");
  }
  stream->graph = new CUgraph_st();
  stream->is_spoilt = false;
  emulator::recorded_streams.push_back(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  emulator::count_call(__func__);
  *graph = nullptr;
  if (stream == nullptr || stream->graph == nullptr) {
    return fail(cudaErrorIllegalState, "the stream is not being recorded");
  }
  auto& recorded = emulator::recorded_streams;
  recorded.erase(std::find(recorded.begin(), recorded.end(), stream));
  *graph = std::exchange(stream->graph, nullptr);
  if (!stream->is_spoilt) return cudaSuccess;
  delete std::exchange(*graph, nullptr);
  return fail(cudaErrorStreamCaptureInvalidated,
              emulator::text_of(cudaErrorStreamCaptureInvalidated).meaning);
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable,
                                          cudaGraph_t graph, unsigned long long) {
  emulator::count_call(__func__);
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  emulator::count_call(__func__);
  for (const DeviceWork& node : executable->nodes) {
    if (const cudaError_t error = node(); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  emulator::count_call(__func__);
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  emulator::count_call(__func__);
  delete executable;
  return cudaSuccess;
}

// --- Launches ----------------------------------------------------------------------

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  emulator::count_call(__func__);
  *attributes = {};
  attributes->maxThreadsPerBlock = emulator::kMaxThreads;
  attributes->ptxVersion = emulator::code_version;
  attributes->binaryVersion =
      emulator::capability_major * 10 + emulator::capability_minor;
  attributes->maxDynamicSharedSizeBytes = emulator::dynamic_shared_bytes_of(kernel);
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute,
                                 int value) {
  emulator::count_call(__func__);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
    return fail(cudaErrorInvalidValue, "the emulator does not know this attribute");
  }
  if (value < 0 || value > emulator::most_shared_bytes()) {
    return fail(cudaErrorInvalidValue,
                "a kernel cannot have " + std::to_string(value) +
                    " bytes of shared memory: the device has " +
                    std::to_string(emulator::most_shared_bytes()) + " for a block");
  }
  emulator::dynamic_shared_bytes[kernel] = value;
  return cudaSuccess;
}
