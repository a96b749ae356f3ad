#include "cuda/map.cuh"
#include "ops/inplace_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class O> struct FromAll {
  template <class I> void operator()() const { cuda::register_map<Cast<compute_t<O>, compute_t<I>>, O, I>(); }
};

const RegisterKernels registered{[] {
  cuda::for_all_types([]<class O>() {
    cuda::for_all_types(FromAll<O>{});
    cuda::register_map<Constant<compute_t<O>>, O>();
  });
  cuda::for_numbers([]<class T>() {
    using C = compute_t<T>;
    cuda::register_map<Plus<C>, T, T, T>();
    cuda::register_map<PlusScaled<C>, T, T, T>();
    cuda::register_map<Times<C>, T, T>();
  });
  cuda::register_map<Plus<float>, float, float, bf16>();
}};

}  // namespace
}  // namespace tandem
