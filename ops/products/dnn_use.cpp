#include "ops/products/dnn_use.h"

namespace tandem::detail {

DnnUse& dnn_use() {
  static DnnUse use = DnnUse::where_it_pays;
  return use;
}

}  // namespace tandem::detail
