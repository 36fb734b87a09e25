// The tile kernels of float32 embeddings that may be multiplied with ten bits.
#include "cuda/tile_kernels.cuh"

namespace negative_cosine {
namespace cuda {

template bool fits_tiles<Tf32>(const LossParams&, int shared_bytes);
template cudaError_t launch_forward_tiles<Tf32>(const LossParams&,
                                                const ForwardOutputs&,
                                                const ForwardScratch&, int shared_bytes,
                                                cudaStream_t, int64_t*);
template cudaError_t launch_gradient_tiles<Tf32>(const LossParams&,
                                                 const GradientArguments&,
                                                 const GradientScratch&,
                                                 int shared_bytes, cudaStream_t);

}  // namespace cuda
}  // namespace negative_cosine
