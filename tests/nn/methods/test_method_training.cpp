// Methods under the trainer.
#include <cmath>

#include "models/vit/vit.h"
#include "nn/methods/methods.h"
#include "tests/nn/train/toy.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::nn;
using namespace tandem::testing;

namespace {

// `count` images in four classes; that of `bad` is NaN.
struct Images final : data::Dataset {
  explicit Images(int64_t count, int64_t bad = -1) : count(count), bad(bad) {}
  int64_t size() const override { return count; }
  data::Batch batch(std::span<const int64_t> indices, const data::BatchContext&) const override {
    Tensors all;
    std::vector<int64_t> classes;
    for (const int64_t i : indices) {
      all.push_back(i == bad ? full({1, 8, 8}, NAN) : normal({1, 8, 8}, static_cast<uint64_t>(i)) + i % 4);
      classes.push_back(i % 4);
    }
    const auto n = static_cast<int64_t>(indices.size());
    return {{stack(all)}, from_values(classes, {n}), {}, n};
  }
  int64_t count, bad;
};

FitResult train(const std::string& method, const Images& images, TrainerOptions options) {
  const InitScope init({.seed = 2});
  models::Vit vit({.image_size = 8,
                   .classes = 4,
                   .patch_size = 4,
                   .dim = 8,
                   .depth = 1,
                   .heads = 2,
                   .mlp_dim = 8,
                   .dropout = 0.1,
                   .head_dropout = 0.2});
  const auto objective = make_method(method, models::hookable(vit));
  AdamW optimizer(vit.parameters(), {.lr = 1e-3});
  options.epochs = 1, options.progress = false;
  Trainer trainer(*objective, optimizer, options);
  return trainer.fit(images, Images(8));
}

}  // namespace

TEST_CASE("methods: a sample that is NaN is left to on_nan, also alone in the batch that is tried first") {
  for (int64_t bad = 0; bad < 11; ++bad) {
    CAPTURE(bad);
    const FitResult result =
        train("fgm", Images(11, bad), {.passes = 1, .alpha = 0, .batch_size = 5, .on_nan = OnNan::skip});
    CHECK(result.skipped == 1);
  }
}

TEST_CASE("methods: plain and multisample measure the KL of passes that they do not compare") {
  for (const char* method : {"plain", "multisample"}) {
    INFO(std::string(method));
    const FitResult result = train(method, Images(16), {.passes = 1, .measure_kl = 1, .batch_size = 8});
    CHECK(result.train.at(0).kl > 0);
  }
}
