#include "tools/tandem/method_choice.h"

#include <fmt/format.h>

#include "autograd/error.h"
#include "nn/io/text.h"
#include "nn/methods/contrastive.h"

namespace tandem::command {

void MethodOption::declare(OptionAdder& to, const std::vector<std::string>& methods,
                           const std::string& about) {
  to.group("Method");
  to.add("--method", name, one_of(methods), data::join(methods, ", ") + about);
  passes_ = to.find("--passes"), alpha_ = to.find("--alpha");
}

void MethodOption::settle(TrainSettings& s, int passes) {
  if (name == "rdrop") return;
  if (passes_->count() == 0) {
    s.trainer.passes = passes;
    passes_->default_str(fmt::format("{}", passes));
  }
  if (alpha_->count() == 0) {
    s.trainer.alpha = 0;
    alpha_->default_str("0");
  }
}

void MethodOption::check_settings(const TrainSettings& s, int passes) const {
  if (name == "rdrop") return;
  check<ConfigError>(!s.compare, "--compare: expected --method rdrop, got {}", name);
  check<ConfigError>(passes == 0 || s.trainer.passes == passes, "--method {}: expected --passes {}, got {}",
                     name, passes, s.trainer.passes);
  check<ConfigError>(s.trainer.alpha == 0, "--method {}: expected --alpha 0, got {}", name, s.trainer.alpha);
}

std::string MethodOption::training_name(int passes) const {
  return name != "rdrop" ? name : passes > 1 ? "R-Drop" : "plain";
}

void MethodChoice::declare(OptionAdder& to) {
  MethodOption::declare(to, nn::method_names(),
                        "; all but rdrop without KL term, in one pass (multisample: --passes heads, 8)");
  to.add("--mixup-alpha", options_.mixup_alpha, positive(),
         "mixup and manifold-mixup: a of the Beta(a, a) that lambda is drawn from");
  to.add("--fgm-epsilon", options_.fgm_epsilon, positive(), "fgm: norm of an embedding's perturbation");
}

void MethodChoice::settle(TrainSettings& s) { MethodOption::settle(s, name == "multisample" ? 8 : 1); }

std::unique_ptr<nn::Objective> MethodChoice::make(const nn::Hookable& model, const TrainSettings& s) const {
  check_settings(s, name == "multisample" ? 0 : 1);
  return nn::make_method(name, model, options_);
}

void SimilarityMethodChoice::declare(OptionAdder& to) {
  MethodOption::declare(to, {"rdrop", "simcse", "simcse-supervised"},
                        "; SimCSE learns from texts without scores (its two passes are the two views), or "
                        "supervised from the pairs that are alike");
  to.add("--temperature", temperature_, tandem::command::positive(), "simcse: divides the cosines");
  to.add("--positive", positive, CLI::Number, "simcse-supervised: the score from which two texts are alike");
}

void SimilarityMethodChoice::settle(TrainSettings& s) { MethodOption::settle(s, name == "simcse" ? 2 : 1); }

std::unique_ptr<nn::Objective> SimilarityMethodChoice::make(models::TextEncoder& model,
                                                            const TrainSettings& s) const {
  check_settings(s, name == "simcse" ? 2 : 1);
  const nn::Embed embed = [&model](const Tensor& ids) { return model.pooled(ids); };
  const nn::ContrastiveOptions options{.temperature = temperature_};
  if (name == "simcse") return std::make_unique<nn::UnsupervisedSimCse>(model, embed, options);
  if (name == "simcse-supervised") return std::make_unique<nn::SupervisedSimCse>(model, embed, options);
  return std::make_unique<nn::Regression<models::TextEncoder>>(model);
}

}  // namespace tandem::command
