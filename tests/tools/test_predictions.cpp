// What a report says of test samples, beside what the library says of the same.
#include "tools/tandem/report/predictions.h"

#include "autograd/grad_mode.h"
#include "autograd/random.h"
#include "nn/data/dataset.h"
#include "nn/layers.h"
#include "nn/train/plan.h"
#include "ops/ops.h"
#include "tests/testing.h"
#include "tools/tandem/report/pictures.h"

namespace tandem::report {
using namespace testing;
namespace {

struct Model : nn::Module {
  nn::Linear hidden{*this, "hidden", 3, 16}, out{*this, "out", 16, 4};
  nn::Dropout drop{*this, "drop", 0.4};
  Tensor forward(const Tensor& x) { return 3 * out(drop(relu(hidden(x)))); }
};

struct Case {
  nn::InitScope scope{{.seed = 3}};
  Model model;
  nn::Classification<Model> objective{model};
  data::TensorDataset samples{{randn({40, 3}, {.seed = 1})}, randint(0, 4, {40}, {.seed = 2})};
  command::Examples examples{.samples = &samples, .classes = {"a", "b", "c", "d"}, .unit = "points"};
};

TEST_CASE("predictions: the mean disagreement is the KL between two passes, as the loss has it") {
  Case c;
  const Predictions found = predict(c.objective, c.examples, 100, {});
  REQUIRE(found.all.size() == 40);
  CHECK(found.samples == 40);
  double sum = 0;
  for (const Prediction& p : found.all) sum += p.disagreement;
  data::Indices all(40);
  for (int64_t i = 0; i < 40; ++i) all[i] = i;
  const nn::StepBatches batches = nn::upload(c.objective, kCpu, {c.samples.batch(all, {})});
  const double kl = nn::kl_between_passes(c.objective, batches, {.seed = 0, .step = 0});
  CHECK(kl > 0.01);
  CHECK(sum / 40 == doctest::Approx(kl).epsilon(1e-4));
  const auto most = found.disagreeing(5);
  REQUIRE(most.size() == 5);
  for (const Prediction& p : found.all) CHECK(p.disagreement <= most[0].disagreement);
  CHECK(c.model.is_training());

  // Rates of the run's own; and without noise, or where passes would be of other samples, there is none.
  const Predictions calm = predict(c.objective, c.examples, 100, {.rates = {0, 0}});
  CHECK(calm.disagreeing(5).empty());
  c.examples.has_passes = false;
  CHECK(std::isnan(predict(c.objective, c.examples, 100, {}).all[0].disagreement));
}

TEST_CASE("predictions: probabilities are those of eval mode, the worst are the least likely targets") {
  Case c;
  const Predictions found = predict(c.objective, c.examples, 100, {});
  c.model.eval();
  const NoGradGuard no_grad;
  data::Indices all(40);
  for (int64_t i = 0; i < 40; ++i) all[i] = i;
  const data::Batch batch = c.samples.batch(all, {});
  const Tensor p = softmax(c.model.forward(batch.inputs[0]), -1);
  int64_t wrong = 0;
  for (const Prediction& each : found.all) {
    const Tensor row = p.select(0, each.sample);
    CHECK(each.target == batch.target.to_vector<int64_t>()[each.sample]);
    CHECK(each.predicted == argmax(row, 0).item());
    CHECK(std::abs(each.confidence - row.to_vector<float>()[each.predicted]) < 1e-5);
    CHECK(std::abs(each.of_target - row.to_vector<float>()[each.target]) < 1e-5);
    wrong += each.predicted != each.target;
  }
  const auto worst = found.worst(100);
  CHECK(std::ssize(worst) == wrong);
  for (size_t i = 1; i < worst.size(); ++i) CHECK(worst[i - 1].of_target <= worst[i].of_target);
  // A part of the samples: always the same, each once.
  const Predictions part = predict(c.objective, c.examples, 15, {}),
                    again = predict(c.objective, c.examples, 15, {});
  REQUIRE(part.all.size() == 15);
  for (size_t i = 0; i < 15; ++i) {
    CHECK(part.all[i].sample == again.all[i].sample);
    if (i > 0) CHECK(part.all[i - 1].sample < part.all[i].sample);
  }
}

TEST_CASE("pictures: pixels as they were, heat from its least to its most, base64") {
  const data::Normalization normalization{{0.5}, {0.25}};
  const Tensor pixels = tensor({0, 64, 128, 255}, {1, 2, 2});
  const data::Image image = picture((pixels / 255 - 0.5) / 0.25, normalization);
  CHECK(image.pixels == std::vector<uint8_t>{0, 64, 128, 255});
  const data::Image map = heat_map({1, 2, 2, {0, 0, 0, 0}}, tensor({1, 1, 1, 3}, {2, 2}));
  CHECK(map.channels == 3);
  REQUIRE(map.height == 112);
  const int64_t area = map.height * map.width, last = area - 1;
  // viridis' ends, over black at 0.6.
  const int least[] = {68, 1, 84}, most[] = {253, 231, 37};
  for (int c = 0; c < 3; ++c) {
    CHECK(std::abs(map.pixels[c * area] - 0.6 * least[c]) <= 1);
    CHECK(std::abs(map.pixels[c * area + last] - 0.6 * most[c]) <= 1);
  }
  CHECK(data_uri({1, 1, 1, {0}}).starts_with("data:image/png;base64,iVBORw0KGgo"));
  const Tensor large = zeros({3, 300, 150});
  const data::Image smaller = picture(large, {{0.1, 0.2, 0.3}, {1, 1, 1}});
  CHECK(smaller.height == 128);
  CHECK(smaller.width == 64);
  CHECK(smaller.pixels[0] == 26);
  CHECK(smaller.pixels.back() == 77);
}

}  // namespace
}  // namespace tandem::report
