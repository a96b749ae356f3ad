// The in-place writes of Tensor, and the unrecorded copy they share with the views.
#include "ops/loops/inplace.h"

#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "ops/arithmetic_kernel.h"
#include "ops/inplace_kernel.h"
#include "ops/loops/loop.h"
#include "ops/loops/transpose.h"

namespace tandem {

void detail::check_writable(const Write& write, const Tensor& target) {
  check<AutogradError>(!(grad_enabled() && target.requires_grad()),
                       "{}: {} is on the tape, which records no in-place writes: write {} (a part: h = "
                       "index_put(h, {{...}}, y)), or open a NoGradGuard for a leaf",
                       write.op, describe(target), write.instead);
  bool repeats = target.passes() > 1 && target.pass_stride() == 0;
  for (int d = 0; d < target.dim(); ++d) repeats |= target.shape()[d] > 1 && target.strides()[d] == 0;
  check<ValueError>(!repeats || target.numel() == 0,
                    "{}: several elements of {} share one place in memory; clone() it first", write.op,
                    describe(target));
}

void detail::check_wide_enough(const Write& write, const Tensor& target, const Tensor& source) {
  check<DTypeError>(is_floating(target.dtype()) || target.dtype() >= source.dtype(),
                    "{}: {} into {}, which is narrower; convert it with to()", write.op, describe(source),
                    describe(target));
}

Tensor detail::readable(const Write& write, const Tensor& target, const Tensor& source) {
  check<AutogradError>(
      !(grad_enabled() && source.requires_grad()),
      "{}: the source ({}) requires a gradient, which an in-place write would lose: write {} "
      "(a part: h = index_put(h, {{...}}, y)), or detach() the source",
      write.op, describe(source), write.instead);
  const TensorImpl &a = *target.impl(), &b = *source.impl();
  const bool same_view = a.offset == b.offset && a.shape == b.shape && a.strides == b.strides &&
                         a.passes == b.passes && a.pass_stride == b.pass_stride;
  return a.storage == b.storage && !same_view ? source.clone() : source;
}

void detail::check_fits(const char* op, const Tensor& target, const Tensor& source) {
  check<ShapeError>(broadcast(op, target.shape(), source.shape()) == target.shape() &&
                        (source.passes() == 1 || source.passes() == target.passes()),
                    "{}: {} does not fit into {}", op, describe(source), describe(target));
}

void copy_elements(const Tensor& dst, const Tensor& src) {
  detail::check_fits("copy", dst, src);
  if (src.device() != dst.device()) {
    const NoGradGuard no_grad;
    return copy_elements(dst, src.to(dst.device()));
  }
  if (dst.dtype() == src.dtype() && dst.device() == kCpu && dst.numel() > 0 &&
      detail::copy_transposed(detail::make_walk<2>(dst, {&src}), size_of(dst.dtype()), dst.raw(),
                              src.raw())) {
    return;
  }
  dispatch_all(dst.dtype(), [&]<class O>() {
    dispatch_all(src.dtype(), [&]<class I>() {
      detail::map_as_it_lies<O, I>(dst, detail::Cast<compute_t<O>, compute_t<I>>{}, src);
    });
  });
}

namespace {

using detail::Write;

// The source after all checks, and in the dtype of the target.
Tensor checked(const Write& write, const Tensor& target, const Tensor& source) {
  detail::check_writable(write, target);
  detail::check_fits(write.op, target, source);
  detail::check_wide_enough(write, target, source);
  return detail::readable(write, target, source).detach();
}
Tensor operand(const Write& write, const Tensor& target, const Tensor& source) {
  return checked(write, target, source).to(target.dtype());
}

// x = F::value(x, source).
template <class F> auto with_value(const Tensor& x, const Tensor& source) {
  return [&]<class T>() {
    detail::map<T, T, T>(x, detail::BinaryValue<F, compute_t<T>>{}, x, source);
    x.bump_version();
  };
}

}  // namespace

const Tensor& Tensor::fill_(double value) const {
  detail::check_writable({"fill_", "h = full_like(h, value)"}, *this);
  check_holds("fill_", dtype(), value);
  dispatch_all(dtype(), [&]<class T>() {
    detail::map<T>(*this, detail::Constant<compute_t<T>>{static_cast<compute_t<T>>(value)});
  });
  bump_version();
  return *this;
}

const Tensor& Tensor::copy_(const Tensor& source) const {
  constexpr Write write{"copy_", "h = y"};
  detail::check_writable(write, *this);
  detail::check_wide_enough(write, *this, source);
  copy_elements(*this, detail::readable(write, *this, source));
  bump_version();
  return *this;
}

const Tensor& Tensor::add_(const Tensor& other, double scale) const {
  const Tensor source = checked({"add_", scale < 0 ? "h = h - y" : "h = h + y"}, *this, other);
  detail::check_factor("add_", dtype(), scale);
  if (scale == 1 && dtype() == DType::f32 && source.dtype() == DType::bf16) {  // without a copy in f32
    detail::map<float, float, bf16>(*this, detail::Plus<float>{}, *this, source);
    bump_version();
    return *this;
  }
  dispatch_numeric("add_", dtype(), [&]<class T>() {
    using C = compute_t<T>;
    const Tensor same = source.to(dtype());
    if (scale == 1) {
      detail::map<T, T, T>(*this, detail::Plus<C>{}, *this, same);
    } else {
      detail::map<T, T, T>(*this, detail::PlusScaled<C>{detail::factor<C>(scale)}, *this, same);
    }
  });
  bump_version();
  return *this;
}

const Tensor& Tensor::add_(double number) const {
  detail::check_writable({"add_", "h = h + y"}, *this);
  detail::check_factor("add_", dtype(), number);
  dispatch_numeric("add_", dtype(), [&]<class T>() {
    using C = compute_t<T>;
    detail::map<T, T>(*this, detail::AffineValue<C>{1, detail::factor<C>(number)}, *this);
  });
  bump_version();
  return *this;
}

const Tensor& Tensor::mul_(const Tensor& other) const {
  const Tensor source = operand({"mul_", "h = h * y"}, *this, other);
  dispatch_numeric("mul_", dtype(), with_value<detail::MulValue>(*this, source));
  return *this;
}

const Tensor& Tensor::div_(double divisor) const {
  detail::check_writable({"div_", "h = h / y"}, *this);
  dispatch_floating("div_", dtype(), [&]<class T>() {
    using C = compute_t<T>;
    detail::map<T, T>(*this, detail::OverNumber<C>{static_cast<C>(divisor)}, *this);
  });
  bump_version();
  return *this;
}

const Tensor& Tensor::mul_(double factor) const {
  detail::check_writable({"mul_", "h = h * y"}, *this);
  detail::check_factor("mul_", dtype(), factor);
  dispatch_numeric("mul_", dtype(), [&]<class T>() {
    using C = compute_t<T>;
    detail::map<T, T>(*this, detail::Times<C>{detail::factor<C>(factor)}, *this);
  });
  bump_version();
  return *this;
}

const Tensor& Tensor::div_(const Tensor& other) const {
  const Tensor source = operand({"div_", "h = h / y"}, *this, other);
  dispatch_floating("div_", dtype(), with_value<detail::DivValue>(*this, source));
  return *this;
}

}  // namespace tandem
