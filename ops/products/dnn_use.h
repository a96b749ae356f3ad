// How much of its work a device's part gives to the library of neural network kernels that it has (cuDNN).
#pragma once

namespace tandem::detail {

// Nothing; all that it takes, but norms only where they are large (cuda/dnn.h); all that it takes.
enum class DnnUse { never, where_it_pays, always };

DnnUse& dnn_use();  // where_it_pays, unless a test says otherwise

}  // namespace tandem::detail
