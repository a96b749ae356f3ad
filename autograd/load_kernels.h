#pragma once

#include <string>

namespace tandem {

// Loads a library of kernels for the CUDA device of this process (load_device), now or once there is one.
// IoError when it cannot be.
void load_kernels(const std::string& file);

}  // namespace tandem
