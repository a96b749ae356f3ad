#include "autograd/pass_context.h"

#include <algorithm>

#include "autograd/error.h"
#include "autograd/scope.h"
#include "autograd/step_scalars.h"
#include "autograd/thread_scope.h"

namespace tandem {
namespace {

thread_local PassContext* innermost = nullptr;

void check_rate(const char* what, double p) {
  check<ConfigError>(p >= 0 && p < 1, "{}: expected a rate in [0, 1), got {}", what, p);
}

}  // namespace

bool Noise::active() const {
  return std::any_of(rates.begin(), rates.end(), [](double p) { return p > 0; });
}

int64_t Noise::per_sample(const char* op, int64_t numel, int64_t size0) const {
  const int64_t samples = batch > 0 ? batch : size0;
  if (numel == 0) return 0;
  check<ShapeError>(samples > 0 && numel % samples == 0,
                    "{}: {} elements are not divisible among the {} samples of the batch", op, numel,
                    samples);
  return numel / samples;
}

Noise::Spans Noise::spans(const char* op, const Shape& shape) const {
  const int64_t numel = shape.numel(), size0 = shape.empty() ? 1 : shape[0];
  Spans spans;
  spans.offset_ = sample_offset;
  if (!packed.defined()) {
    spans.width_ = spans.longest_ = per_sample(op, numel, size0);
    spans.size_ = numel == 0 ? 0 : numel / spans.width_;
    return spans;
  }
  check<ShapeError>(!shape.empty() && size0 == packed.rows(),
                    "{}: {} within a PackedScope, expected {} rows, those of the words of {} samples", op,
                    shape, packed.rows(), packed.samples());
  if (numel == 0) return spans;
  spans.packed_ = packed;
  spans.size_ = packed.samples();
  spans.width_ = numel / size0;
  spans.longest_ = packed.longest() * spans.width_;
  spans.together_ = per_sample(op, packed.samples(), packed.samples());
  return spans;
}

std::optional<int> Noise::passes_kept() const {
  if (recorded_scalars()) return {};
  int kept = 0;
  for (int i = 0; i < passes(); ++i)
    kept += rates[i] == 0 || single_draw(key, first_pass + i, sample_offset, 0) >= drop_threshold(rates[i]);
  return kept;
}

PassContext::PassContext(PassOptions options) : options_(std::move(options)), outer_(innermost) {
  check<ConfigError>(options_.count >= 1 && options_.first >= 0 && options_.first < kMaxPasses &&
                         options_.count <= kMaxPasses - options_.first,
                     "passes: expected 1 to {} of them, got {} from {}", kMaxPasses, options_.count,
                     options_.first);
  for (double p : options_.rates) check_rate("rates", p);
  check<ConfigError>(
      options_.rates.empty() || static_cast<int>(options_.rates.size()) >= options_.first + options_.count,
      "rates: expected one for each of {} passes, got {}", options_.first + options_.count,
      options_.rates.size());
  check<ConfigError>(options_.rate_scale >= 0, "rate_scale: expected a number >= 0, got {}",
                     options_.rate_scale);
  check<ConfigError>(options_.compute == DType::f32 || options_.compute == DType::bf16,
                     "compute: expected f32 or bf16, got {}", name_of(options_.compute));
  innermost = this;
}

PassContext::~PassContext() { close_scope(innermost, this, &PassContext::outer_, "PassContext"); }
PassContext* PassContext::current() { return innermost; }

PassContext& PassContext::require(const char* op) {
  check<AutogradError>(
      innermost != nullptr,
      "{}: noise outside of a PassContext: in a loop, begin each step with nn::Step step(model, "
      "optimizer), on the thread that runs the model; without noise, call model.eval()",
      op);
  return *innermost;
}

Noise PassContext::noise(Purpose purpose, double p) {
  const uint64_t site = site_hash(Scope::current());
  Noise noise;
  noise.site = site;
  noise.call = calls_[{site, purpose}]++;
  noise.purpose = purpose;
  noise.key = noise_key(options_.seed, options_.step, site, noise.call, purpose);
  noise.first_pass = static_cast<uint32_t>(options_.first);
  noise.sample_offset = options_.sample_offset;
  noise.batch = options_.batch;
  noise.packed = PackedScope::rows();
  check_rate("dropout", p);
  for (int i = options_.first; i < options_.first + options_.count; ++i) {
    // The lists of R-Drop are dropout rates: stochastic depth and other noise keep their own.
    const bool replaced = purpose == Purpose::dropout && p > 0;
    const double rate = !replaced ? p : options_.rates.empty() ? p * options_.rate_scale : options_.rates[i];
    check_rate("rate_scale", rate);
    noise.rates.push_back(rate);
  }
  drew_noise_ |= noise.active();
  return noise;
}

}  // namespace tandem
