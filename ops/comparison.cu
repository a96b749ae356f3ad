#include "cuda/map.cuh"
#include "ops/comparison_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class... F> void register_predicates() {
  cuda::for_all_types([]<class T>() { (cuda::register_map<Holds<F, compute_t<T>>, bool, T, T>(), ...); });
}

const RegisterKernels registered{[] {
  register_predicates<Eq, Ne, Lt, Le, Gt, Ge, And, Or>();
  cuda::for_all_types([]<class T>() { cuda::register_map<Choose<compute_t<T>>, T, bool, T, T>(); });
}};

}  // namespace
}  // namespace tandem
