#include "cuda/map.cuh"
#include "ops/arithmetic_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class F> struct ForBinary {
  template <class T> void operator()() const { cuda::register_map<BinaryValue<F, compute_t<T>>, T, T, T>(); }
};

const RegisterKernels registered{[] {
  cuda::for_numbers(ForBinary<AddValue>{});
  cuda::register_map<BinaryValue<AddValue, float>, float, float, bf16>();
  cuda::register_map<BinaryValue<AddValue, float>, float, bf16, float>();
  cuda::for_numbers(ForBinary<SubValue>{});
  cuda::for_numbers(ForBinary<MulValue>{});
  cuda::for_numbers(ForBinary<MaximumValue>{});
  cuda::for_numbers(ForBinary<MinimumValue>{});
  cuda::for_floats(ForBinary<DivValue>{});
  cuda::for_floats(ForBinary<PowValue>{});
  cuda::for_types<float, double>(ForBinary<BinaryCrossEntropyValue>{});
  cuda::for_types<float, double>(ForBinary<SigmoidDistanceValue>{});
  cuda::for_types<float, double>([]<class T>() {
    cuda::register_map<BinaryCrossEntropyGrad<T>, T, T, T, T>();
    cuda::register_map<SigmoidDistanceByX<T>, T, T, T, T>();
    cuda::register_map<SigmoidDistanceByD<T>, T, T, T, T>();
  });
  cuda::for_numbers([]<class T>() { cuda::register_map<AffineValue<compute_t<T>>, T, T>(); });
  cuda::for_floats([]<class T>() {
    cuda::register_map<PowScalarValue<compute_t<T>>, T, T>();
    cuda::register_map<OverNumber<compute_t<T>>, T, T>();
    cuda::register_map<NumberOver<compute_t<T>>, T, T>();
  });
}};

}  // namespace
}  // namespace tandem
