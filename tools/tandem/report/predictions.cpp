#include "tools/tandem/report/predictions.h"

#include <algorithm>
#include <numeric>

#include "autograd/pass_context.h"
#include "nn/train/evaluate.h"
#include "ops/ops.h"

namespace tandem::report {
namespace {

constexpr int64_t kBatch = 256;

// Probabilities of one unit, a row of a matrix of logits.
struct Row {
  std::vector<double> log_p;

  Row(const std::vector<float>& logits, int64_t at, int64_t classes)
      : log_p(logits.begin() + at * classes, logits.begin() + (at + 1) * classes) {
    const double most = *std::max_element(log_p.begin(), log_p.end());
    double sum = 0;
    for (const double x : log_p) sum += std::exp(x - most);
    for (double& x : log_p) x -= most + std::log(sum);
  }
  int64_t likeliest() const { return std::max_element(log_p.begin(), log_p.end()) - log_p.begin(); }
  double p(int64_t at) const { return std::exp(log_p[at]); }
};

// The mean of KL(P_i || P_j) over i != j of two: half of sum (p - q) (log p - log q).
double divergence(const Row& a, const Row& b) {
  double sum = 0;
  for (size_t c = 0; c < a.log_p.size(); ++c)
    if (std::isfinite(a.log_p[c]) && std::isfinite(b.log_p[c]))
      sum += (std::exp(a.log_p[c]) - std::exp(b.log_p[c])) * (a.log_p[c] - b.log_p[c]);
  return sum / 2;
}

template <class Key> std::vector<Prediction> first_by(std::vector<Prediction> of, size_t most, Key key) {
  std::stable_sort(of.begin(), of.end(),
                   [&](const Prediction& a, const Prediction& b) { return key(a) < key(b); });
  of.resize(std::min(of.size(), most));
  return of;
}

}  // namespace

metrics::Confusion Predictions::confusion(int64_t classes) const {
  metrics::Classes predicted, target;
  for (const Prediction& p : all) predicted.push_back(p.predicted), target.push_back(p.target);
  return metrics::confusion_matrix(predicted, target, classes);
}

std::vector<metrics::ReliabilityBin> Predictions::reliability() const {
  std::vector<double> confidence;
  std::vector<bool> right;
  for (const Prediction& p : all)
    confidence.push_back(std::min(p.confidence, 1.0)), right.push_back(p.predicted == p.target);
  return metrics::reliability(confidence, right);
}

std::vector<Prediction> Predictions::worst(size_t most) const {
  std::vector<Prediction> wrong;
  for (const Prediction& p : all)
    if (p.predicted != p.target) wrong.push_back(p);
  return first_by(std::move(wrong), most, [](const Prediction& p) { return p.of_target; });
}

std::vector<Prediction> Predictions::disagreeing(size_t most) const {
  std::vector<Prediction> noisy;
  for (const Prediction& p : all)
    if (p.disagreement > 0) noisy.push_back(p);
  return first_by(std::move(noisy), most, [](const Prediction& p) { return -p.disagreement; });
}

Predictions predict(nn::Objective& objective, const command::Examples& examples, int64_t most,
                    const NoiseOptions& noise) {
  const data::Dataset& samples = *examples.samples;
  std::vector<data::Indices> batches = samples.ordered_batches(kBatch);
  Predictions result{.all = {}, .samples = std::min(most, samples.size())};
  if (most < samples.size()) {  // of every class: files are often sorted by them
    data::Indices drawn = data::shuffled(samples.size(), 0, 0);
    drawn.resize(most);
    std::sort(drawn.begin(), drawn.end());
    batches = data::cut_batches(drawn, kBatch);
  }
  nn::Module& module = objective.module();
  const nn::EvalMode mode(module);
  const auto classes = std::ssize(examples.classes);
  uint64_t offset = 0;
  for (const data::Indices& indices : batches) {
    const data::Batch host = samples.batch(indices, {}), batch = host.to(module.device());
    const Tensor logits = objective.forward(batch).to(DType::f32);
    const int64_t count = std::ssize(indices), tokens = logits.numel() / (count * classes);
    check<ShapeError>(logits.size(-1) == classes && tokens * count * classes == logits.numel() &&
                          batch.target.numel() == tokens * count,
                      "report: logits {} of {} samples and {} classes", describe(logits), count, classes);
    const std::vector<float> calm = logits.to_vector<float>();
    std::vector<float> noisy[2];
    if (examples.has_passes) {
      module.train();
      const PassContext context({.count = 2,
                                 .rates = noise.rates,
                                 .rate_scale = noise.rate_scale,
                                 .sample_offset = offset,
                                 .batch = batch.size,
                                 .updates_statistics = false});
      const Tensor both = objective.forward(batch).to(DType::f32);
      if (both.passes() == 2)
        for (int i = 0; i < 2; ++i) noisy[i] = both.pass(i).to_vector<float>();
      module.eval();
    }
    const auto targets = host.target.to_vector<int64_t>();
    const auto valid =
        host.valid.defined() ? host.valid.to_vector<uint8_t>() : std::vector<uint8_t>(targets.size(), 1);
    for (int64_t i = 0; i < count * tokens; ++i) {
      if (valid[i] == 0 || targets[i] < 0 || targets[i] >= classes) continue;
      const Row row(calm, i, classes);
      const int64_t likeliest = row.likeliest();
      Prediction& p = result.all.emplace_back(Prediction{.sample = indices[i / tokens],
                                                         .token = i % tokens,
                                                         .target = targets[i],
                                                         .predicted = likeliest,
                                                         .confidence = row.p(likeliest),
                                                         .of_target = row.p(targets[i])});
      if (noisy[0].empty()) continue;
      const Row first(noisy[0], i, classes), second(noisy[1], i, classes);
      p.disagreement = divergence(first, second);
      p.passes[0] = first.likeliest(), p.passes[1] = second.likeliest();
    }
    offset += indices.size();
  }
  return result;
}

}  // namespace tandem::report
