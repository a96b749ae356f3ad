#include "cuda/map.cuh"
#include "ops/arithmetic_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class F>
struct ForBinary {
  template <class T>
  void operator()() const {
    cuda::register_map<BinaryValue<F, compute_t<T>>, T, T, T>();
  }
};

const bool registered = [] {
  cuda::ForNumbers(ForBinary<AddValue>{});
  cuda::ForNumbers(ForBinary<SubValue>{});
  cuda::ForNumbers(ForBinary<MulValue>{});
  cuda::ForNumbers(ForBinary<MaximumValue>{});
  cuda::ForNumbers(ForBinary<MinimumValue>{});
  cuda::ForFloats(ForBinary<DivValue>{});
  cuda::ForFloats(ForBinary<PowValue>{});
  cuda::ForNumbers([]<class T>() { cuda::register_map<AffineValue<compute_t<T>>, T, T>(); });
  cuda::ForFloats([]<class T>() { cuda::register_map<PowScalarValue<compute_t<T>>, T, T>(); });
  return true;
}();

}  // namespace
}  // namespace tandem
