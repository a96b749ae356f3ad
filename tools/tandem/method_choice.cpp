#include "tools/tandem/method_choice.h"

#include "autograd/error.h"
#include "nn/data/text.h"

namespace tandem::command {

void MethodChoice::declare(OptionAdder& to) {
  to.group("Method");
  to.add("--method", name, one_of(nn::method_names()),
         data::join(nn::method_names(), ", ") +
             "; all but rdrop and multisample with --passes 1; multisample with --alpha 0, its heads are the "
             "passes");
  to.add("--mixup-alpha", options.mixup_alpha, positive(),
         "mixup and manifold-mixup: a of the Beta(a, a) that lambda is drawn from");
  to.add("--fgm-epsilon", options.fgm_epsilon, positive(), "fgm: norm of an embedding's perturbation");
}

std::unique_ptr<nn::Objective> MethodChoice::make(const nn::Hookable& model, const TrainSettings& s) const {
  if (name != "rdrop") {
    const bool heads = name == "multisample";
    check<ConfigError>(!s.compare, "--compare: expected --method rdrop, got {}", name);
    check<ConfigError>(heads || s.trainer.passes == 1, "--method {}: expected --passes 1, got {}", name,
                       s.trainer.passes);
    check<ConfigError>(!heads || s.trainer.alpha == 0, "--method {}: expected --alpha 0, got {}", name,
                       s.trainer.alpha);
  }
  return nn::make_method(name, model, options);
}

std::string MethodChoice::training_name(int passes) const {
  return name != "rdrop" ? name : passes > 1 ? "R-Drop" : "plain";
}

}  // namespace tandem::command
