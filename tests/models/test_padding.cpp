// Text models leave padding out of their forwards: with it, they make the same steps to rounding, under every
// plan, with the noise on.
#include "models/transformer/padding.h"

#include <limits>

#include "autograd/grad_mode.h"
#include "autograd/profiler.h"
#include "autograd/registry.h"
#include "models/models.h"
#include "tests/nn/train/outcome.h"

using namespace tandem;
using namespace tandem::testing;
using models::LanguageModel;
using models::TextEncoder;
using models::Transformer;

namespace {

constexpr int64_t kPad = 0, kVocab = 12, kLength = 9;
using TextClassification = nn::Classification<TextEncoder>;

// The outputs of forwards that compute every position.
Tensor padded_output(TextEncoder& model, const TextClassification&, const data::Batch& batch) {
  const auto seen = [](int64_t, const Tensor& x) { return x; };  // what hooks see is not packed
  return model.head(model.pooled(batch.inputs[0], batch.inputs[1], seen));
}
Tensor padded_output(TextEncoder& model, const models::TokenClassification&, const data::Batch& batch) {
  return model.head(model.hidden(batch.inputs[0], batch.inputs[1]));
}
Tensor padded_output(TextEncoder& model, const models::MaskedLanguageModeling&, const data::Batch& batch) {
  return model.masked_lm_hidden(model.hidden(batch.inputs[0], batch.inputs[1]));
}
Tensor padded_output(LanguageModel& model, const models::LanguageModeling&, const data::Batch& batch) {
  return model.hidden(batch.inputs[0]);
}
Tensor padded_output(Transformer& model, const models::SequenceToSequence&, const data::Batch& batch) {
  const Tensor &source = batch.inputs[0], &target = batch.inputs[1];
  if (model.config().copy) return model.forward(source, target);
  return model.decode(target, model.encode(source), source);
}

template <class Model, class Packed> class Padded final : public nn::Objective {
 public:
  explicit Padded(Model& model) : model_(model), packed_(model) {}
  nn::Module& module() override { return model_; }
  Tensor forward(const data::Batch& batch) override { return padded_output(model_, packed_, batch); }
  LossParts loss(const Tensor& output, const data::Batch& batch, const RDropOptions& options,
                 int passes) override {
    return packed_.loss(output, batch, options, passes);
  }
  int64_t valid_units(const data::Batch& batch) const override { return packed_.valid_units(batch); }

 private:
  Model& model_;
  Packed packed_;
};

// A text of ids in [1, vocab): `before` paddings, `words` words.
struct Text {
  int64_t before, words;
};
// Among them padding in front and behind, none, one word, and a hole.
const std::vector<Text> kTexts = {{0, 4}, {2, 3}, {0, kLength}, {0, 1}, {0, 6}, {3, 6}};

Tensor ids_of(const std::vector<Text>& texts, uint64_t seed, bool hole = true) {
  const int64_t count = std::ssize(texts);
  const Tensor ids = SampleMaker(seed, DType::f32, kCpu).integers({count, kLength}, 1, kVocab);
  int64_t* at = ids.data<int64_t>();
  for (int64_t i = 0; i < count; ++i)
    for (int64_t t = 0; t < kLength; ++t)
      if (t < texts[i].before || t >= texts[i].before + texts[i].words) at[i * kLength + t] = kPad;
  if (hole && count > 4) at[4 * kLength + 2] = at[4 * kLength + 3] = kPad;
  return ids;
}
std::vector<Text> at_the_start(std::vector<Text> texts) {
  for (Text& text : texts) text.before = 0;
  return texts;
}

data::Batch classes(const std::vector<Text>& texts, uint64_t seed) {
  const int64_t count = std::ssize(texts);
  SampleMaker make(seed + 1, DType::f32, kCpu);
  const Tensor segments = make.integers({count, kLength}, 0, 2);
  return {{ids_of(texts, seed), segments}, make.integers({count}, 0, 3), {}, count};
}
// Labels of words, of some padding, too; half of all positions count.
data::Batch tags(const std::vector<Text>& texts, uint64_t seed) {
  data::Batch batch = classes(texts, seed);
  SampleMaker make(seed + 2, DType::f32, kCpu);
  batch.target = make.integers({batch.size, kLength}, 0, 3);
  batch.valid = make.mask({batch.size, kLength}, 0.5);
  return batch;
}
data::Batch hidden_words(const std::vector<Text>& texts, uint64_t seed) {
  data::Batch batch = classes(texts, seed);
  SampleMaker make(seed + 2, DType::f32, kCpu);
  const Tensor words = make.integers({batch.size, kLength}, 1, kVocab);
  batch.target = words * make.mask({batch.size, kLength}, 0.3).to(DType::i64);
  return batch;
}
data::Batch continued(const std::vector<Text>& texts, uint64_t seed) {
  return {{ids_of(at_the_start(texts), seed, false)},
          ids_of(at_the_start(texts), seed + 1),
          {},
          std::ssize(texts)};
}
data::Batch sentences(const std::vector<Text>& texts, uint64_t seed) {
  std::vector<Text> targets(texts.rbegin(), texts.rend());
  targets = at_the_start(targets);
  return {{ids_of(texts, seed), ids_of(targets, seed + 1, false)},
          ids_of(targets, seed + 2),
          {},
          std::ssize(texts)};
}

// The packed steps beside the padded ones.
template <class Model, class Objective, class Config>
void check_padded(const Config& config, const std::vector<data::Batch>& batches, bool packs = true) {
  for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::sequential, nn::Plan::replay}) {
    for (const int passes : {1, 2, 3}) {
      INFO("plan ", std::string(name_of(plan)), ", m = ", passes);
      const nn::StepOptions options{.passes = passes,
                                    .alpha = 2,
                                    .label_smoothing = 0.1,
                                    .plan = plan,
                                    .seed = 3,
                                    .step = 5,
                                    .sample_offset = 7};
      const Outcome expected =
          outcome_of<Model, Padded<Model, Objective>>(DType::f64, batches, options, config);
      const Profiler profiler;
      const Outcome packed = outcome_of<Model, Objective>(DType::f64, batches, options, config);
      CHECK(profiler.rows().contains("pack_padded") == packs);
      if (passes > 1) CHECK(expected.result.kl > 1e-5);
      check_same(packed, expected, 1e-12);
    }
  }
}

template <class Config> std::vector<Config> variants(const Config& tiny) {
  std::vector<Config> all(3, tiny);
  all[1].norm_first = !tiny.norm_first, all[1].layer_drop = 0.4;
  all[2].word_dropout = 0.3, all[2].attention_dropout = 0;
  return all;
}

models::TextEncoderConfig encoder(models::Pooling pooling = models::Pooling::cls) {
  return {.vocab = kVocab,
          .outputs = 3,
          .dim = 8,
          .heads = 2,
          .mlp_dim = 16,
          .max_positions = 16,
          .dropout = 0.3,
          .attention_dropout = 0.2,
          .pooling = pooling};
}

}  // namespace

TEST_CASE("text encoder without its padding: the steps of one with it") {
  std::vector<Text> with_nothing = kTexts;
  with_nothing.push_back({0, 0});
  for (models::TextEncoderConfig config : variants(encoder())) {
    check_padded<TextEncoder, TextClassification>(config, {classes(kTexts, 1), classes(with_nothing, 5)});
    config.position_offset = 2;
    check_padded<TextEncoder, TextClassification>(config, {classes(kTexts, 1)});
    config.masked_lm_head = true;
    check_padded<TextEncoder, models::TokenClassification>(config, {tags(kTexts, 1), tags(with_nothing, 5)});
    check_padded<TextEncoder, models::MaskedLanguageModeling>(config, {hidden_words(kTexts, 1)});
  }
  for (const auto& config :
       variants(encoder()))  // all that is left out is the last layer, but for first tokens
    check_padded<TextEncoder, TextClassification>(
        config,
        {classes(std::vector<Text>(4, {0, kLength}), 1), classes(std::vector<Text>(3, {0, kLength}), 2)},
        false);
  for (const auto& config : variants(encoder(models::Pooling::mean)))
    check_padded<TextEncoder, TextClassification>(config, {classes(kTexts, 1), classes(kTexts, 5)});
}

TEST_CASE("language model without its padding: the steps of one with it") {
  const models::LanguageModelConfig tiny{.vocab = kVocab,
                                         .dim = 8,
                                         .heads = 2,
                                         .mlp_dim = 16,
                                         .max_positions = 16,
                                         .dropout = 0.3,
                                         .attention_dropout = 0.2,
                                         .activation_dropout = 0.1};
  for (models::LanguageModelConfig config : variants(tiny)) {
    check_padded<LanguageModel, models::LanguageModeling>(config, {continued(kTexts, 1)});
    config.positions = models::Positions::sinusoidal, config.cutoffs = {5, 8}, config.factor = 2;
    check_padded<LanguageModel, models::LanguageModeling>(config,
                                                          {continued(kTexts, 1), continued(kTexts, 5)});
  }
}

TEST_CASE("encoder-decoder without its padding: the steps of one with it") {
  const models::TransformerConfig tiny{.vocab = kVocab,
                                       .dim = 8,
                                       .heads = 2,
                                       .mlp_dim = 16,
                                       .max_positions = 16,
                                       .dropout = 0.3,
                                       .attention_dropout = 0.2,
                                       .activation_dropout = 0.1};
  std::vector<Text> with_nothing = kTexts;
  with_nothing.push_back({0, 0});
  for (models::TransformerConfig config : variants(tiny)) {
    check_padded<Transformer, models::SequenceToSequence>(config,
                                                          {sentences(kTexts, 1), sentences(with_nothing, 5)});
    config.positions = models::Positions::learned, config.position_offset = 2, config.embedding_norm = true;
    check_padded<Transformer, models::SequenceToSequence>(config, {sentences(with_nothing, 1)});
    config.copy = true;
    check_padded<Transformer, models::SequenceToSequence>(config, {sentences(kTexts, 1)});
  }
}

TEST_CASE(
    "text encoder without its padding: cut into micro-batches, by any number of threads, in eval mode") {
  const nn::StepOptions options{.passes = 2, .alpha = 2, .seed = 3};
  const data::Batch whole = classes(kTexts, 1);
  const auto part = [&](int64_t begin, int64_t end) {
    data::Batch batch = whole.map([&](const Tensor& x) { return x.slice(0, begin, end).contiguous(); });
    batch.size = end - begin;
    return batch;
  };
  const auto step = [&](const std::vector<data::Batch>& batches, DType dtype) {
    return outcome_of<TextEncoder, TextClassification>(dtype, batches, options, encoder());
  };
  check_same(step({part(0, 1), part(1, 4), part(4, 6)}, DType::f64), step({whole}, DType::f64), 1e-12);
  const auto [one, two] = with_one_and_two_threads([&] { return step({whole}, DType::f32); });
  CHECK(distance(two.gradients, one.gradients) < 1e-5);

  TextEncoder model(encoder());
  model.to(DType::f64);
  model.eval();
  TextClassification objective(model);
  CHECK(difference(objective.forward(whole), padded_output(model, objective, whole)) < 1e-13);
}

TEST_CASE("without padding nothing is packed, and what padding holds reaches nothing") {
  const nn::InitScope init({.seed = 7, .dtype = DType::f64});
  TextEncoder model(encoder(models::Pooling::mean));
  TextClassification objective(model);
  const auto ops = [&](const data::Batch& batch) {
    const Profiler profiler;
    const Outcome outcome = step_of(model, objective, {batch}, {.passes = 2});
    return profiler.rows();
  };
  CHECK(!ops(classes({{0, kLength}, {0, kLength}}, 1)).contains("pack_padded"));
  CHECK(ops(classes({{0, kLength}, {0, kLength - 2}}, 1)).contains("pack_padded"));
  {
    const NoGradGuard no_grad;
    for (const nn::NamedTensor& p : model.named_parameters())
      if (p.name == "words.weight") p.tensor.select(0, kPad).fill_(std::numeric_limits<double>::quiet_NaN());
  }
  std::vector<Text> texts = kTexts;
  texts.resize(4);  // no hole
  const Outcome outcome = step_of(model, objective, {classes(texts, 1)}, {.passes = 2});
  CHECK(std::isfinite(outcome.result.loss));
  for (const double g : outcome.gradients) REQUIRE(std::isfinite(g));
}

TEST_CASE(
    "which rows are computed: from the first to the last that is wanted, if enough others are left out") {
  const auto mask = [](const std::vector<uint8_t>& values, int64_t samples) {
    return from_values(values, {samples, std::ssize(values) / samples}).to(DType::boolean);
  };
  const Tensor wanted = mask({0, 1, 0, 1, 0, /**/ 0, 0, 0, 0, 0, /**/ 1, 0, 0, 0, 0}, 3);
  const PackedRows rows = models::without_padding({{wanted}})[0];
  REQUIRE(rows.defined());
  CHECK(rows.rows() == 4);
  CHECK(rows.longest() == 3);
  CHECK(rows[0].position == 1);
  CHECK(rows[1].rows == 0);
  CHECK(rows[2].first_row == 3);
  CHECK(models::without_padding({{wanted, true}})[0].rows() == 5);
  CHECK(models::positions_of(rows).to_vector<int64_t>() == std::vector<int64_t>{1, 2, 3, 0});
  CHECK(models::padding_within(!wanted, rows).to_vector<uint8_t>() == std::vector<uint8_t>{0, 1, 0, 0});
  CHECK(!models::padding_within(mask(std::vector<uint8_t>(15, 0), 3), rows).defined());

  // 40 positions: one of padding is too little, two are a twentieth. Batches are packed together or not.
  std::vector<uint8_t> forty(40, 1);
  forty[39] = 0;
  CHECK(!models::without_padding({{mask(forty, 2)}})[0].defined());
  forty[38] = 0;
  CHECK(models::without_padding({{mask(forty, 2)}})[0].defined());
  const auto both = models::without_padding({{mask(forty, 2)}, {mask(std::vector<uint8_t>(40, 1), 4)}});
  CHECK(!both[0].defined());
  CHECK(!both[1].defined());
  CHECK(!models::without_padding({{mask({}, 1)}})[0].defined());
}
