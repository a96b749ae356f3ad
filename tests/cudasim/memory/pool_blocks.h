// What a caching allocator tells the simulator (block_hooks.cpp).
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>

extern "C" {
// The block, an allocation of cudaMalloc, is used for its first bytes from now on, whose values are
// undefined.
void tandem_block_acquired(void* block, size_t bytes, cudaStream_t stream);
// It is not used any more.
void tandem_block_released(void* block, cudaStream_t stream);
}
