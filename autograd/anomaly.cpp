#include "autograd/anomaly.h"

#include <cmath>

#include "autograd/dispatch.h"
#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/scope.h"
#include "autograd/tensor_impl.h"
#include "autograd/thread_scope.h"

namespace tandem {
namespace {

thread_local DetectAnomalyGuard* active = nullptr;

bool any_nan(const Tensors& all) {
  for (const Tensor& x : all)
    if (count_non_finite(x).nan > 0) return true;
  return false;
}

bool all_finite(const Tensors& all) {
  for (const Tensor& x : all)
    if (*count_non_finite(x).worst() != '\0') return false;
  return true;
}

std::string found(const NonFinite& bad, const Tensor& x) {
  return fmt::format("{} in {} of {} elements of {}", bad.worst(), bad.nan > 0 ? bad.nan : bad.infinite,
                     x.numel() * x.passes(), describe(x));
}

std::string in_module(const std::string& path) { return path.empty() ? "" : "; in " + path; }

std::string then(const std::string& first_infinity) {
  return first_infinity.empty() ? "" : first_infinity + "; then ";
}

}  // namespace

NonFinite count_non_finite(const Tensor& x) {
  NonFinite bad;
  if (!x.defined() || !is_floating(x.dtype()) || x.numel() == 0) return bad;
  const NoGradGuard no_grad;
  const Tensor host = dense(x.device() == kCpu ? x : x.to(kCpu));
  dispatch_floating("count_non_finite", x.dtype(), [&]<class T>() {
    const T* values = host.data<T>();
    for (int64_t i = 0; i < host.numel() * host.passes(); ++i) {
      const double value = static_cast<double>(values[i]);
      bad.nan += std::isnan(value);
      bad.infinite += std::isinf(value);
    }
  });
  return bad;
}

DetectAnomalyGuard::DetectAnomalyGuard() : outer_(active) { active = this; }
DetectAnomalyGuard::~DetectAnomalyGuard() {
  close_scope(active, this, &DetectAnomalyGuard::outer_, "DetectAnomalyGuard");
}

AnomalyCheck::AnomalyCheck() : guard_(active) {
  if (guard_) [[unlikely]]
    active = nullptr;
}

void AnomalyCheck::go_on() noexcept { active = guard_; }

void AnomalyCheck::check_forward(const char* op, const Tensors& inputs, const Tensor& output) const {
  const NonFinite bad = count_non_finite(output);
  if (bad.nan > 0 && any_nan(inputs))  // no op made it, or the guard had thrown
    raise<NonFiniteError>("{} was given nan, which no op before it made", op);
  check<NonFiniteError>(bad.nan == 0, "{}{} made {}, of none in its inputs", then(guard_->first_infinity_),
                        op, found(bad, output));
  if (bad.infinite > 0 && guard_->first_infinity_.empty() && all_finite(inputs))
    guard_->first_infinity_ =
        fmt::format("{} made {}, of finite inputs{}", op, found(bad, output), in_module(Scope::current()));
}

void AnomalyCheck::remember(uint64_t sequence) const {
  if (!Scope::current().empty()) guard_->modules_[sequence] = Scope::current();
}

void AnomalyCheck::check_backward(const Op& made_by, uint64_t sequence, const Tensor& gradient,
                                  const Tensors& cotangents) const {
  const auto module = guard_->modules_.find(sequence);
  const std::string path = module == guard_->modules_.end() ? "" : module->second;
  const Scope scope(path);  // for the errors
  const char* op = made_by.name();
  for (size_t i = 0; i < cotangents.size(); ++i) {
    if (!made_by.needs(i)) continue;
    const NonFinite bad = count_non_finite(cotangents[i]);
    if (bad.nan > 0 && any_nan({gradient}))
      raise<NonFiniteError>("the backward of {} was given nan, which a hook or a sum of gradients made", op);
    check<NonFiniteError>(bad.nan == 0, "{}the backward of {} made {}, the gradient of its input {}",
                          then(guard_->first_infinity_), op, found(bad, cotangents[i]), i);
    if (bad.infinite > 0 && guard_->first_infinity_.empty() && all_finite({gradient}))
      guard_->first_infinity_ = fmt::format("the backward of {} made {}, the gradient of its input {}{}", op,
                                            found(bad, cotangents[i]), i, in_module(path));
  }
}

}  // namespace tandem
