// Attention by cuDNN: of bf16, without a mask of keys, without dropout (its random numbers cannot be ours).
// False, and nothing done, for whatever else, and where the library has no plan (cuda/dnn.h).
#pragma once

#include "ops/attention_kernel.h"

namespace tandem::cuda {

bool attention_by_library(const detail::AttentionForward<bf16>& args);
bool attention_by_library(const detail::AttentionBackward<bf16>& args);  // needs the forward's output

}  // namespace tandem::cuda
