// Part of the simulated device's module alone: what the allocator does is told to the simulator.
#include "cuda/allocator.h"
#include "memory/pool_blocks.h"

namespace tandem::cuda {

void block_acquired(void* block, size_t bytes, cudaStream_t stream) {
  tandem_block_acquired(block, bytes, stream);
}
void block_released(void* block, cudaStream_t stream) { tandem_block_released(block, stream); }

}  // namespace tandem::cuda
