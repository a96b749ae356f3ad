// Baselines to compare with R-Drop, each an Objective of a classifier.
//
//   name             loss of a batch                                                        passes
//   plain            CE                                                                     1
//   rdrop            mean_i CE(P_i, y) + alpha/2 mean_{i != j} KL(P_i || P_j)               any
//   mixup            l CE(y) + (1 - l) CE(y') of l x + (1 - l) x', l ~ Beta(a, a)           any
//                    (Zhang et al. 2018, arXiv 1710.09412), x the embedding
//   manifold-mixup   the same at a level drawn for each step (Verma et al. 2019, 1806.05236)  any
//   fgm              CE(e) + CE(e + eps g / |g|), e the embedding, g = dCE/de               1
//                    (Miyato et al. 2017, 1605.07725)
//   multisample      mean of CE over several dropped heads on one trunk                     any: the heads
//                    (Inoue 2019, 1905.09788)
//
// They act in training only: in eval mode each is the plain classifier. Their random choices are pure
// functions of (seed, step, place in the global batch): resumed runs, and all plans, draw the same.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "autograd/pass_context.h"
#include "nn/methods/hidden_hook.h"
#include "nn/train/objective.h"

namespace tandem::nn {

// The options of make_method(); each method reads its own.
struct MethodOptions {
  double mixup_alpha = 0.2;   // a of Beta(a, a), above 0
  double fgm_epsilon = 1;     // norm of a sample's perturbation, above 0
  Tensor class_weights = {};  // of every method's cross-entropy in training: ClassWeights
};

// Batches have labels [B]. The model must outlive the objective. ConfigError for an unknown name or an option
// out of its range; while training, for a number of passes or an alpha that the method does not allow.
std::unique_ptr<Objective> make_method(const std::string& name, const Hookable& model,
                                       const MethodOptions& options = {});
std::vector<std::string> method_names();

// MixUp of a micro-batch: sample i becomes lambda x_i + (1 - lambda) x_order[i].
struct Mixing {
  double lambda = 1;
  std::vector<int64_t> order;  // the partner of each sample
  int64_t level = 0;           // of the HiddenHook at which they are mixed

  Tensor operator()(const Tensor& x) const;  // [B, ...]
};

// One lambda ~ Beta(a, a) and one level in [0, levels) for the whole step, one order for each micro-batch,
// whose samples are computed together. Samples that do not count are their own partners.
Mixing draw_mixing(const PassOptions& pass, const data::Batch& batch, double a, int64_t levels);

// epsilon g / |g| of each sample (the first dimension) of g, in its shape; 0 where g is 0.
Tensor fgm_perturbation(const Tensor& gradient, double epsilon);

}  // namespace tandem::nn
