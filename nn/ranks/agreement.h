// What ranks must have in common before they train together.
#pragma once

#include <map>
#include <string>

#include "autograd/ranks.h"
#include "nn/module.h"

namespace tandem::nn {

// Waits for all ranks. ConfigError, on all of them, naming the first entry in which a rank differs from rank
// 0, and both values.
void check_agreement(Ranks& ranks, const std::map<std::string, std::string>& entries);

// SHA-256 of the bytes of these tensors, in their order: equal weights have equal ones.
std::string weights_digest(const StateDict& weights);

}  // namespace tandem::nn
