#include "cuda/map.cuh"
#include "ops/inplace_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class O>
struct FromAll {
  template <class I>
  void operator()() const {
    cuda::register_map<Cast<compute_t<O>, compute_t<I>>, O, I>();
  }
};

const bool registered = [] {
  cuda::ForAll([]<class O>() {
    cuda::ForAll(FromAll<O>{});
    cuda::register_map<Constant<compute_t<O>>, O>();
  });
  cuda::ForNumbers([]<class T>() {
    using C = compute_t<T>;
    cuda::register_map<Plus<C>, T, T, T>();
    cuda::register_map<PlusScaled<C>, T, T, T>();
    cuda::register_map<Times<C>, T, T>();
  });
  return true;
}();

}  // namespace
}  // namespace tandem
