// The in-place writes of Tensor, and the unrecorded copy they share with the views.
#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "ops/detail/loop.h"

namespace tandem {
namespace {

void check_writable(const char* op, const Tensor& x) {
  check<AutogradError>(!(grad_enabled() && x.requires_grad()),
                       "{}: an in-place write to a tensor of the tape ({}); use a NoGradGuard or detach()",
                       op, describe(x));
}

// An input of an in-place op must broadcast to the target and add no passes to it.
void check_fits(const char* op, const Tensor& target, const Tensor& source) {
  check<ShapeError>(broadcast(op, target.shape(), source.shape()) == target.shape() &&
                        (source.passes() == 1 || source.passes() == target.passes()),
                    "{}: {} does not fit into {}", op, describe(source), describe(target));
}

}  // namespace

void copy_elements(const Tensor& dst, const Tensor& src) {
  check_fits("copy", dst, src);
  dispatch_all(dst.dtype(), [&]<class O>() {
    dispatch_all(src.dtype(), [&]<class I>() {
      detail::map<O, I>(
          dst, [](compute_t<I> x) { return static_cast<compute_t<O>>(x); }, src);
    });
  });
}

const Tensor& Tensor::fill_(double value) const {
  check_writable("fill_", *this);
  dispatch_all(dtype(), [&]<class T>() {
    detail::map<T>(*this, [v = static_cast<compute_t<T>>(value)] { return v; });
  });
  bump_version();
  return *this;
}

const Tensor& Tensor::copy_(const Tensor& source) const {
  check_writable("copy_", *this);
  copy_elements(*this, source);
  bump_version();
  return *this;
}

const Tensor& Tensor::add_(const Tensor& other, double scale) const {
  check_writable("add_", *this);
  check_fits("add_", *this, other);
  const Tensor source = other.dtype() == dtype() ? other : other.detach().to(dtype());
  dispatch_numeric("add_", dtype(), [&]<class T>() {
    using C = compute_t<T>;
    if (scale == 1) {
      detail::map<T, T, T>(
          *this, [](C a, C b) { return static_cast<C>(a + b); }, *this, source);
    } else {
      detail::map<T, T, T>(
          *this, [s = static_cast<C>(scale)](C a, C b) { return static_cast<C>(a + s * b); }, *this, source);
    }
  });
  bump_version();
  return *this;
}

const Tensor& Tensor::mul_(double factor) const {
  check_writable("mul_", *this);
  dispatch_numeric("mul_", dtype(), [&]<class T>() {
    using C = compute_t<T>;
    detail::map<T, T>(
        *this, [f = static_cast<C>(factor)](C a) { return static_cast<C>(a * f); }, *this);
  });
  bump_version();
  return *this;
}

}  // namespace tandem
