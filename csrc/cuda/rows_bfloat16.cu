// The row kernels of bfloat16 embeddings.
#include "cuda/row_kernels.cuh"

namespace negative_cosine {
namespace cuda {

template cudaError_t launch_forward_rows<BFloat16>(const LossParams&,
                                                   const ForwardOutputs&,
                                                   const ForwardScratch&, int,
                                                   cudaStream_t, int64_t*);
template cudaError_t launch_gradient_rows<BFloat16>(const LossParams&,
                                                    const GradientArguments&,
                                                    const GradientScratch&, int,
                                                    cudaStream_t);

}  // namespace cuda
}  // namespace negative_cosine
