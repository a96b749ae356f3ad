#include "tools/tandem/method_choice.h"

#include "autograd/error.h"
#include "nn/io/text.h"

namespace tandem::command {

void MethodChoice::declare(Command& to, const std::vector<std::string>& methods, const std::string& about) {
  to.group("Method");
  to.option("--method", name, one_of(methods), data::join(methods, ", ") + about);
  passes_ = to.find("--passes"), alpha_ = to.find("--alpha");
}

void MethodChoice::settle(int passes) {
  if (name == "rdrop") return;
  passes_.default_to(passes);
  alpha_.default_to(0);
}

void MethodChoice::check_settings(const TrainSettings& s, int passes, bool compares) const {
  if (name == "rdrop") return;
  check<ConfigError>(!s.compare, "--compare: expected --method rdrop, got {}", name);
  check<ConfigError>(passes == 0 || s.trainer.passes == passes, "--method {}: expected --passes {}, got {}",
                     name, passes, s.trainer.passes);
  check<ConfigError>(compares || s.trainer.alpha == 0, "--method {}: expected --alpha 0, got {}", name,
                     s.trainer.alpha);
}

std::string MethodChoice::training_name(int passes) const {
  return name != "rdrop" ? name : passes > 1 ? "R-Drop" : "plain";
}

void ClassifierMethod::declare(Command& to, bool images) {
  std::vector<std::string> names = nn::method_names();
  if (!images) std::erase(names, "cutmix");
  MethodChoice::declare(
      to, names,
      "; all but rdrop without KL term, in one pass (multisample: --passes heads, 8), unless "
      "--passes and --alpha of those that mix samples say otherwise");
  to.option("--mixup-alpha", options_.mixup_alpha, positive(),
            "of methods that mix samples: a of the Beta(a, a) that lambda is drawn from");
  to.option("--fgm-epsilon", options_.fgm_epsilon, positive(), "fgm: norm of an embedding's perturbation");
}

void ClassifierMethod::settle() { MethodChoice::settle(name == "multisample" ? 8 : 1); }

std::unique_ptr<nn::Objective> ClassifierMethod::make(const nn::Hookable& model, const TrainSettings& s,
                                                      const Tensor& class_weights) const {
  const bool mixes = nn::mixes_samples(name);
  check_settings(s, mixes || name == "multisample" ? 0 : 1, mixes);
  nn::MethodOptions options = options_;
  options.class_weights = class_weights;
  return nn::make_method(name, model, options);
}

}  // namespace tandem::command
