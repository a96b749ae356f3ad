#include "autograd/gradcheck.h"

#include <cmath>

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/noise.h"
#include "autograd/used_ops.h"

namespace tandem {
namespace {

using Values = std::vector<double>;
using F = std::function<Tensor(const Tensors&)>;

double dot(const Values& a, const Values& b) {
  double total = 0;
  for (size_t i = 0; i < a.size(); ++i) total += a[i] * b[i];
  return total;
}
double norm(const Values& a) { return std::sqrt(dot(a, a)); }

// Normal numbers in the shape and passes of x.
Tensor random_like(const Tensor& x, uint64_t seed) {
  const Tensor result = empty(x.shape(), {x.dtype()}, x.passes());
  fill_normal(noise_key(seed, 0, 0, 0, Purpose::init), 0, 1, result.data<double>(), x.numel() * x.passes());
  return result.to(x.device());
}

// Zeros but for one element, counted through all passes.
Tensor unit_like(const Tensor& x, int64_t element) {
  const Tensor result = empty(x.shape(), {x.dtype()}, x.passes()).zero_();
  result.data<double>()[element] = 1;
  return result.to(x.device());
}

bool checked(const Tensor& x) { return x.defined() && is_floating(x.dtype()); }

// x + h u, outside of the tape.
Tensor moved(const Tensor& x, const Tensor& u, double h) { return x.detach().clone().add_(u, h); }

struct Check {
  const F& f;
  const GradcheckOptions& options;

  Values at(const Tensors& inputs) const {
    NoGradGuard guard;
    return f(inputs).to_vector<double>();
  }

  Values difference(const Tensors& inputs, size_t which, const Tensor& u) const {
    Tensors low = inputs, high = inputs;
    high[which] = moved(inputs[which], u, options.step);
    low[which] = moved(inputs[which], u, -options.step);
    Values ju = at(high);
    const Values below = at(low);
    for (size_t i = 0; i < ju.size(); ++i) ju[i] = (ju[i] - below[i]) / (2 * options.step);
    return ju;
  }

  Tensors leaves(const Tensors& inputs) const {
    Tensors result;
    for (const Tensor& x : inputs) result.push_back(checked(x) ? x.detach().clone().requires_grad_() : x);
    return result;
  }

  // The gradient of <v, f> at `inputs`, one for each checked input.
  Tensors gradients(const Tensors& inputs, const Tensor& v) const {
    const Tensors x = leaves(inputs);
    Tensors wanted;
    for (const Tensor& t : x) {
      if (checked(t)) wanted.push_back(t);
    }
    const Tensor y = f(x);
    if (y.requires_grad()) return grad(y, wanted, v);
    for (Tensor& t : wanted) t = zeros_like(t);  // a constant
    return wanted;
  }

  std::string worst_entry(const Tensors& inputs, size_t which, size_t slot, const Tensor& output) const {
    double worst = -1, analytic = 0, numeric = 0;
    int64_t row = 0, column = 0;
    const int64_t columns = inputs[which].numel() * inputs[which].passes();
    const int64_t rows = output.numel() * output.passes();
    if (rows * columns > 1 << 16) return "";
    std::vector<Values> vjps;
    for (int64_t r = 0; r < rows; ++r) {
      vjps.push_back(gradients(inputs, unit_like(output, r))[slot].to_vector<double>());
    }
    for (int64_t c = 0; c < columns; ++c) {
      const Values ju = difference(inputs, which, unit_like(inputs[which], c));
      for (int64_t r = 0; r < rows; ++r) {
        if (const double e = std::abs(ju[r] - vjps[r][c]); e > worst) {
          worst = e, analytic = vjps[r][c], numeric = ju[r], row = r, column = c;
        }
      }
    }
    return fmt::format(
        "; worst Jacobian entry: d output[{}] / d input[{}]: vjp {:.9g}, central difference {:.9g}", row,
        column, analytic, numeric);
  }

  GradcheckResult run(const Tensors& inputs) const {
    GradcheckResult result;
    Tensor output;
    {
      NoGradGuard guard;
      output = f(inputs);
    }
    for (int direction = 0; direction < options.directions; ++direction) {
      const uint64_t seed = options.seed + 1000 * direction;
      const Tensor v = random_like(output, seed);
      const Values v_values = v.to_vector<double>();
      const Tensors vjp = gradients(inputs, v);
      for (size_t which = 0, slot = 0; which < inputs.size(); ++which) {
        if (!checked(inputs[which])) continue;
        const Tensor u = random_like(inputs[which], seed + 1 + which);
        const Values ju = difference(inputs, which, u);
        const double numeric = dot(v_values, ju),
                     analytic = dot(vjp[slot].to_vector<double>(), u.to_vector<double>());
        const double scale = std::max(norm(v_values) * norm(ju), 1e-3);
        const double error = std::abs(numeric - analytic) / scale;
        if (!(error <= result.error)) result.error = error;  // also when it is NaN
        if (!(error <= options.tolerance) && result.passed) {
          result.passed = false;
          result.message =
              fmt::format("input {} ({}): <vjp(v), u> = {:.9g}, <v, J u> = {:.9g}, relative error {:.3g}",
                          which, describe(inputs[which]), analytic, numeric, error) +
              worst_entry(inputs, which, slot, output);
        }
        ++slot;
      }
    }
    return result;
  }
};

}  // namespace

GradcheckResult gradcheck(const F& f, const Tensors& inputs, const GradcheckOptions& options) {
  for (const Tensor& x : inputs) {
    check<DTypeError>(!checked(x) || x.dtype() == DType::f64, "gradcheck: expected f64 inputs, got {}",
                      describe(x));
  }
  GradcheckResult result = Check{f, options}.run(inputs);
  if (!result.passed || !options.second_order) return result;

  // The gradient itself, as a function of the inputs and of the cotangent: sum_i <gradient_i, w_i>.
  Tensor v;
  {
    NoGradGuard guard;
    v = random_like(f(inputs), options.seed + 77);
  }
  Tensors extended = inputs;
  extended.push_back(v);
  const F gradient = [&](const Tensors& in) {
    GradMode recording(true);  // the difference quotients call this without a tape
    Tensors x(in.begin(), in.end() - 1), wanted;
    for (Tensor& t : x) {
      if (!checked(t)) continue;
      if (!t.requires_grad()) t = t.detach().clone().requires_grad_();
      wanted.push_back(t);
    }
    const Tensors gradients = grad(f(x), wanted, in.back(), {.create_graph = true});
    Tensor total;
    for (size_t i = 0; i < gradients.size(); ++i) {
      const Tensor part =
          mul(gradients[i], random_like(gradients[i], options.seed + 99 + i)).passes_as_batch().sum();
      total = total.defined() ? add(total, part) : part;
    }
    return total;
  };
  GradcheckResult second = Check{gradient, options}.run(extended);
  if (!second.passed) second.message = "second order: " + second.message;
  second.error = std::max(second.error, result.error);
  return second;
}

}  // namespace tandem
