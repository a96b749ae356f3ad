// Checks that the constructors of layers share.
#pragma once

#include <initializer_list>

#include "nn/module.h"

namespace tandem::nn {

// ConfigError naming the layer and its path unless all sizes are at least 1.
void check_sizes(const Module& module, const char* layer, std::initializer_list<int64_t> sizes);
// ConfigError unless p is in [0, 1).
void check_rate(const Module& module, const char* layer, double p);

}  // namespace tandem::nn
