// Baselines to compare with R-Drop, each an Objective of a classifier.
//
//   name             loss of a batch                                                        passes
//   plain            CE                                                                     1
//   rdrop            mean_i CE(P_i, y) + alpha/2 mean_{i != j} KL(P_i || P_j)               any
//   mixup            l CE(y) + (1 - l) CE(y') of l x + (1 - l) x', l ~ Beta(a, a)           any
//                    (Zhang et al. 2018, arXiv 1710.09412), x the embedding
//   manifold-mixup   the same at a level drawn for each step (Verma et al. 2019, 1806.05236)  any
//   cutmix           the same where a box of x, of 1 - l of its area, is x' (Yun et al. 2019,     any
//                    1905.04899); x images
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
  double mixup_alpha = 0.2;   // a of Beta(a, a), above 0; also of cutmix
  double fgm_epsilon = 1;     // norm of a sample's perturbation, above 0
  Tensor class_weights = {};  // of every method's cross-entropy in training: ClassWeights
};

// Batches have labels [B]. The model must outlive the objective. ConfigError for an unknown name or an option
// out of its range; while training, for a number of passes or an alpha that the method does not allow.
std::unique_ptr<Objective> make_method(const std::string& name, const Hookable& model,
                                       const MethodOptions& options = {});
std::vector<std::string> method_names();

// Those of them that mix samples.
bool mixes_samples(const std::string& name);

// MixUp of a micro-batch: sample i becomes lambda x_i + (1 - lambda) x_order[i].
struct Mixing {
  double lambda = 1;
  std::vector<int64_t> order;  // the partner of each sample
  int64_t level = 0;           // of the HiddenHook at which they are mixed

  Tensor operator()(const Tensor& x) const;  // [B, ...]
};

// CutMix of a micro-batch: rows [top, bottom) and columns [left, right) of image i become those of image
// order[i].
struct CutMixing {
  double lambda = 1;  // the part of the area that stays
  std::vector<int64_t> order;
  int64_t top = 0, bottom = 0, left = 0, right = 0;

  Tensor operator()(const Tensor& images) const;  // [B, C, H, W]
};

// One box for the whole step, around a pixel drawn from all, of which what is outside is cut off.
CutMixing draw_cut_mixing(const PassOptions& pass, const data::Batch& batch, double a, int64_t height,
                          int64_t width);

// One lambda ~ Beta(a, a) and one level in [0, levels) for the whole step, one order for each micro-batch,
// whose samples are computed together. Samples that do not count are their own partners.
Mixing draw_mixing(const PassOptions& pass, const data::Batch& batch, double a, int64_t levels);

// epsilon g / |g| of each sample (the first dimension) of g, in its shape; 0 where g is 0.
Tensor fgm_perturbation(const Tensor& gradient, double epsilon);

}  // namespace tandem::nn
