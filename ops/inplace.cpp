// The in-place writes of Tensor, and the unrecorded copy they share with the views.
#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "ops/inplace_kernel.h"
#include "ops/loops/loop.h"

namespace tandem {
namespace {

void check_writable(const char* op, const Tensor& x) {
  check<AutogradError>(!(grad_enabled() && x.requires_grad()),
                       "{}: an in-place write to a tensor of the tape ({}); use a NoGradGuard or detach()",
                       op, describe(x));
  bool repeats = x.passes() > 1 && x.pass_stride() == 0;
  for (int d = 0; d < x.dim(); ++d) repeats |= x.shape()[d] > 1 && x.strides()[d] == 0;
  check<ValueError>(!repeats || x.numel() == 0,
                    "{}: several elements of {} share one place in memory; clone() it first", op,
                    describe(x));
}

// A float may be rounded, but nothing is cut.
void check_wide_enough(const char* op, const Tensor& target, const Tensor& source) {
  check<DTypeError>(is_floating(target.dtype()) || target.dtype() >= source.dtype(),
                    "{}: {} into {}, which is narrower; convert it with to()", op, describe(source),
                    describe(target));
}

// What is written into x: nothing the tape should have seen, and not x's own memory in another order.
Tensor readable(const char* op, const Tensor& x, const Tensor& source) {
  check<AutogradError>(!(grad_enabled() && source.requires_grad()),
                       "{}: the source ({}) requires a gradient, which an in-place write would lose; use a "
                       "NoGradGuard or detach()",
                       op, describe(source));
  const TensorImpl &a = *x.impl(), &b = *source.impl();
  const bool same_view = a.offset == b.offset && a.shape == b.shape && a.strides == b.strides &&
                         a.passes == b.passes && a.pass_stride == b.pass_stride;
  return a.storage == b.storage && !same_view ? source.clone() : source;
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
  if (src.device() != dst.device()) {
    const NoGradGuard no_grad;
    return copy_elements(dst, src.to(dst.device()));
  }
  dispatch_all(dst.dtype(), [&]<class O>() {
    dispatch_all(src.dtype(),
                 [&]<class I>() { detail::map<O, I>(dst, detail::Cast<compute_t<O>, compute_t<I>>{}, src); });
  });
}

const Tensor& Tensor::fill_(double value) const {
  check_writable("fill_", *this);
  check_holds("fill_", dtype(), value);
  dispatch_all(dtype(), [&]<class T>() {
    detail::map<T>(*this, detail::Constant<compute_t<T>>{static_cast<compute_t<T>>(value)});
  });
  bump_version();
  return *this;
}

const Tensor& Tensor::copy_(const Tensor& source) const {
  check_writable("copy_", *this);
  check_wide_enough("copy_", *this, source);
  copy_elements(*this, readable("copy_", *this, source));
  bump_version();
  return *this;
}

const Tensor& Tensor::add_(const Tensor& other, double scale) const {
  check_writable("add_", *this);
  check_fits("add_", *this, other);
  check_wide_enough("add_", *this, other);
  detail::check_factor("add_", dtype(), scale);
  const Tensor source = readable("add_", *this, other).detach().to(dtype());
  dispatch_numeric("add_", dtype(), [&]<class T>() {
    using C = compute_t<T>;
    if (scale == 1) {
      detail::map<T, T, T>(*this, detail::Plus<C>{}, *this, source);
    } else {
      detail::map<T, T, T>(*this, detail::PlusScaled<C>{detail::factor<C>(scale)}, *this, source);
    }
  });
  bump_version();
  return *this;
}

const Tensor& Tensor::mul_(double factor) const {
  check_writable("mul_", *this);
  detail::check_factor("mul_", dtype(), factor);
  dispatch_numeric("mul_", dtype(), [&]<class T>() {
    using C = compute_t<T>;
    detail::map<T, T>(*this, detail::Times<C>{detail::factor<C>(factor)}, *this);
  });
  bump_version();
  return *this;
}

}  // namespace tandem
