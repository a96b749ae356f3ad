#include "autograd/dtype.h"

namespace tandem {

std::string_view name_of(DType dtype) {
  constexpr std::string_view names[kDTypes] = {"bool", "u8", "i32", "i64", "bf16", "f32", "f64"};
  return names[static_cast<int>(dtype)];
}

}  // namespace tandem
