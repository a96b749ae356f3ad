#include "nn/methods/methods.h"

#include <algorithm>
#include <cmath>

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "nn/io/text.h"
#include "ops/ops.h"

namespace tandem::nn {
namespace {

LossParts sum_of(const LossParts& a, double weight_a, const LossParts& b, double weight_b) {
  return {.loss = a.loss * weight_a + b.loss * weight_b,
          .ce = weight_a * a.ce + weight_b * b.ce,
          .kl = weight_a * a.kl + weight_b * b.kl,
          .valid = a.valid,
          .correct = a.correct};
}

// R-Drop itself; the others change what happens in training.
class Method : public Objective {
 public:
  Method(const Hookable& model, const MethodOptions& options)
      : model_(model), weights_(options.class_weights) {}
  Module& module() final { return model_.module; }

  double weight_of(const data::Batch& batch, int64_t units) const final {
    return weights_.weight_of(batch, units);
  }
  bool recordable() const override { return !weights_.given(); }

  Tensor forward(const data::Batch& batch) final { return training() ? run(batch) : model_.logits(batch); }
  LossParts loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                 int passes) final {
    return training() ? train_loss(logits, batch, options, passes)
                      : cross_entropy_of(logits, batch, options, passes);
  }

 protected:
  virtual Tensor run(const data::Batch& batch) { return model_.logits(batch); }
  virtual LossParts train_loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                               int passes) {
    return cross_entropy_of(logits, batch, options, passes);
  }

  LossParts cross_entropy_of(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                             int passes) const {
    return weights_.loss(model_.module, logits, batch, options, passes);
  }

  LossParts mixed_loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                       int passes, double lambda, const std::vector<int64_t>& order) const;

  Hookable model_;

 private:
  ClassWeights weights_;
  bool training() const { return model_.module.is_training(); }
};

// Of labels that count lambda, and 1 - lambda those of the samples in that order.
LossParts Method::mixed_loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                             int passes, double lambda, const std::vector<int64_t>& order) const {
  data::Batch partners = batch;
  partners.target = index_select(batch.target, 0, from_values(order, {batch.size}).to(batch.target.device()));
  const LossParts own = cross_entropy_of(logits, batch, options, passes),
                  other = cross_entropy_of(logits, partners, options, passes);
  LossParts parts = sum_of(own, lambda, other, 1 - lambda);
  if (lambda < 0.5) parts.correct = other.correct;  // right is the label that weighs more
  return parts;
}

void one_pass(const char* method, int passes) {
  check<ConfigError>(passes == 1, "{}: expected passes 1, got {}", method, passes);
}

class Plain final : public Method {
 public:
  using Method::Method;

 protected:
  LossParts train_loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                       int passes) override {
    if (grad_enabled()) one_pass("plain", passes);  // two are held against each other without a tape
    return cross_entropy_of(logits, batch, options, passes);
  }
};

class Mixup final : public Method {
 public:
  Mixup(const Hookable& model, const MethodOptions& options, int64_t levels)
      : Method(model, options), a_(options.mixup_alpha), levels_(levels) {
    const double a = a_;
    check<ConfigError>(a > 0 && std::isfinite(a), "mixup_alpha: expected a number above 0, got {}", a);
  }

  bool recordable() const override { return false; }
  bool tells_kl() const override { return false; }
  bool splits() const override { return false; }

 protected:
  Tensor run(const data::Batch& batch) override {
    mixing_ = draw_mixing(PassContext::require("mixup").options(), batch, a_, levels_);
    return model_.logits(
        batch, [this](int64_t level, const Tensor& x) { return level == mixing_.level ? mixing_(x) : x; });
  }

  LossParts train_loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                       int passes) override {
    return mixed_loss(logits, batch, options, passes, mixing_.lambda, mixing_.order);
  }

 private:
  double a_;
  int64_t levels_;
  Mixing mixing_;  // of the forward whose output the loss gets
};

class CutMix final : public Method {
 public:
  CutMix(const Hookable& model, const MethodOptions& options)
      : Method(model, options), a_(options.mixup_alpha) {
    check<ConfigError>(a_ > 0 && std::isfinite(a_), "mixup_alpha: expected a number above 0, got {}", a_);
  }

  bool recordable() const override { return false; }
  bool tells_kl() const override { return false; }
  bool splits() const override { return false; }

 protected:
  Tensor run(const data::Batch& batch) override {
    const Tensor& images = batch.inputs.at(0);
    check<ShapeError>(images.dim() == 4, "cutmix: expected images [B, C, H, W], got {}", describe(images));
    mixing_ =
        draw_cut_mixing(PassContext::require("cutmix").options(), batch, a_, images.size(2), images.size(3));
    data::Batch mixed = batch;
    mixed.inputs[0] = mixing_(images);
    return model_.logits(mixed);
  }

  LossParts train_loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                       int passes) override {
    return mixed_loss(logits, batch, options, passes, mixing_.lambda, mixing_.order);
  }

 private:
  double a_;
  CutMixing mixing_;  // of the forward whose output the loss gets
};

class Fgm final : public Method {
 public:
  Fgm(const Hookable& model, const MethodOptions& options)
      : Method(model, options), epsilon_(options.fgm_epsilon) {
    const double epsilon = epsilon_;
    check<ConfigError>(epsilon > 0 && std::isfinite(epsilon),
                       "fgm_epsilon: expected a number above 0, got {}", epsilon);
  }

  bool recordable() const override { return false; }
  bool tells_kl() const override { return false; }

 protected:
  // Both logits, [2B, classes]. The second forward has the noise of the first: it is the same function at a
  // nearby point, and g is its gradient.
  Tensor run(const data::Batch& batch) override {
    const PassOptions pass = PassContext::require("fgm").options();
    one_pass("fgm", pass.count);
    Tensor embedding, clean, g;
    {
      const GradMode tape(true);  // also where the plan runs without one
      clean = model_.logits(batch, [&](int64_t level, const Tensor& x) {
        if (level > 0) return x;
        return embedding = x.requires_grad() ? x : x.detach().requires_grad_();
      });
      const Tensor loss = rdrop_cross_entropy(clean, batch.target, {.divisor = 1}, batch.valid).loss;
      g = grad(loss, {embedding}, {}, {.retain_graph = true})[0];
    }
    const Tensor perturbation = fgm_perturbation(g, epsilon_);
    const PassContext again(pass);
    return cat({clean, model_.logits(batch, [&](int64_t level, const Tensor& x) {
                  return level == 0 ? x + perturbation : x;
                })});
  }

  // ce is the sum of both; accuracy is that of the batch without perturbation.
  LossParts train_loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                       int passes) override {
    one_pass("fgm", passes);
    const Tensors halves = split(logits, batch.size);
    return sum_of(cross_entropy_of(halves.at(0), batch, options, passes), 1,
                  cross_entropy_of(halves.at(1), batch, options, passes), 1);
  }

 private:
  double epsilon_;
};

// The passes are the heads: only they see more than one.
class MultiSample final : public Method {
 public:
  using Method::Method;

 protected:
  Tensor run(const data::Batch& batch) override {
    PassOptions trunk = PassContext::require("multisample").options();
    const int heads = trunk.count;
    trunk.first = 0, trunk.count = 1;
    Tensor features;
    {
      const PassContext once(trunk);
      features = model_.features(batch, {});
    }
    const Tensor logits = model_.head(features);
    check<ConfigError>(heads == 1 || logits.passes() == heads,
                       "multisample: the head has no dropout to draw {} times", heads);
    return logits;
  }

  LossParts train_loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                       int passes) override {
    // Without a tape, passes are held against each other to measure their KL.
    check<ConfigError>(options.alpha == 0 || passes == 1 || !grad_enabled(),
                       "multisample: expected alpha 0, got {}: its heads are not compared", options.alpha);
    return cross_entropy_of(logits, batch, options, passes);
  }
};

}  // namespace

std::unique_ptr<Objective> make_method(const std::string& name, const Hookable& model,
                                       const MethodOptions& options) {
  if (name == "plain") return std::make_unique<Plain>(model, options);
  if (name == "rdrop") return std::make_unique<Method>(model, options);
  if (name == "mixup") return std::make_unique<Mixup>(model, options, 1);
  if (name == "manifold-mixup") return std::make_unique<Mixup>(model, options, model.levels);
  if (name == "cutmix") return std::make_unique<CutMix>(model, options);
  if (name == "fgm") return std::make_unique<Fgm>(model, options);
  if (name == "multisample") return std::make_unique<MultiSample>(model, options);
  raise<ConfigError>("method: expected one of {}, got '{}'", data::join(method_names(), ", "), name);
}

std::vector<std::string> method_names() {
  return {"plain", "rdrop", "mixup", "manifold-mixup", "fgm", "multisample", "cutmix"};
}

bool mixes_samples(const std::string& name) {
  return name == "mixup" || name == "manifold-mixup" || name == "cutmix";
}

Tensor Mixing::operator()(const Tensor& x) const {
  const Tensor partners = index_select(x, 0, from_values(order, {std::ssize(order)}).to(x.device()));
  return x * lambda + partners * (1 - lambda);
}

Mixing draw_mixing(const PassOptions& pass, const data::Batch& batch, double a, int64_t levels) {
  // The call number is the place of the micro-batch, so that each draws its own order.
  const auto key = [&](const char* what, uint64_t call) {
    return noise_key(pass.seed, pass.step, site_hash(what), static_cast<uint32_t>(call), Purpose::mixup);
  };
  Mixing mixing{.lambda = beta(key("mixup.lambda", 0), 0, a, a),
                .order = {},
                .level = static_cast<int64_t>(bounded(key("mixup.level", 0), 0, 0, levels))};
  const auto labels = batch.target.to_vector<int64_t>();
  const auto valid =
      batch.valid.defined() ? batch.valid.to_vector<uint8_t>() : std::vector<uint8_t>(labels.size(), 1);
  std::vector<int64_t> counted;
  for (size_t i = 0; i < labels.size(); ++i) {
    mixing.order.push_back(static_cast<int64_t>(i));
    if (valid[i] != 0 && labels[i] != RDropOptions().ignore_index) counted.push_back(i);
  }
  const auto drawn = permutation(key("mixup.order", pass.sample_offset), std::ssize(counted));
  for (size_t i = 0; i < counted.size(); ++i) mixing.order[counted[i]] = counted[drawn[i]];
  return mixing;
}

Tensor CutMixing::operator()(const Tensor& images) const {
  const int64_t height = images.size(2), width = images.size(3);
  std::vector<uint8_t> inside(static_cast<size_t>(height * width));
  for (int64_t y = top; y < bottom; ++y)
    for (int64_t x = left; x < right; ++x) inside[y * width + x] = 1;
  const Tensor box = ne(from_values(inside, {height, width}), 0).to(images.device());
  return where(box, index_select(images, 0, from_values(order, {std::ssize(order)}).to(images.device())),
               images);
}

CutMixing draw_cut_mixing(const PassOptions& pass, const data::Batch& batch, double a, int64_t height,
                          int64_t width) {
  Mixing drawn = draw_mixing(pass, batch, a, 1);
  const NoiseKey key = noise_key(pass.seed, pass.step, site_hash("cutmix.box"), 0, Purpose::mixup);
  const double side = std::sqrt(1 - drawn.lambda);  // of the box, as a part of the image's
  CutMixing mixing{.lambda = 1, .order = std::move(drawn.order)};
  const auto cut = [&](int64_t whole, int64_t middle, int64_t& begin, int64_t& end) {
    const auto half = static_cast<int64_t>(side * static_cast<double>(whole)) / 2;
    begin = std::max<int64_t>(middle - half, 0), end = std::min(middle + half, whole);
  };
  cut(height, static_cast<int64_t>(bounded(key, 0, 0, height)), mixing.top, mixing.bottom);
  cut(width, static_cast<int64_t>(bounded(key, 0, 1, width)), mixing.left, mixing.right);
  mixing.lambda -= static_cast<double>((mixing.bottom - mixing.top) * (mixing.right - mixing.left)) /
                   static_cast<double>(height * width);
  return mixing;
}

Tensor fgm_perturbation(const Tensor& gradient, double epsilon) {
  const NoGradGuard no_grad;
  const int64_t batch = gradient.size(0);
  const Tensor rows = gradient.reshape({batch, -1}), norm = sqrt(square(rows).sum({1}, true));
  const Tensor unit = where(gt(norm, 0), rows / norm, zeros_like(rows));
  return (unit * epsilon).reshape(gradient.shape());
}

}  // namespace tandem::nn
