#include "nn/data/masked_texts.h"

#include "autograd/error.h"
#include "autograd/noise.h"

namespace tandem::data {

MaskedTexts::MaskedTexts(const TextDataset& texts, int64_t vocabulary, double rate)
    : texts_(texts), rate_(rate) {
  check<ConfigError>(rate > 0 && rate < 1, "masked texts: rate: expected a number in (0, 1), got {}", rate);
  const SpecialIds& special = texts.special();
  check<ConfigError>(special.mask >= 0, "masked texts: expected a vocabulary with a mask, it has none");
  for (int64_t id = 0; id < vocabulary; ++id)
    if (!special.contains(id)) words_.push_back(id);
  check<ConfigError>(!words_.empty(), "masked texts: a vocabulary of {} has no words", vocabulary);
}

Batch MaskedTexts::batch(std::span<const int64_t> indices, const BatchContext& context) const {
  Batch batch = texts_.batch(indices, context);
  const Tensor ids = batch.inputs[0];
  const int64_t count = ids.size(0), length = ids.size(1);
  const SpecialIds& special = texts_.special();
  batch.target = full({count, length}, static_cast<double>(special.pad), {DType::i64});
  const NoiseKey key =
      noise_key(context.seed, context.step, site_hash("masked texts"), 0, Purpose::augmentation);
  for (int64_t i = 0; i < count; ++i) {
    const auto sample = context.training ? context.sample_offset + i : static_cast<uint64_t>(indices[i]);
    int64_t* words = ids.data<int64_t>() + i * length;
    int64_t* hidden = batch.target.data<int64_t>() + i * length;
    const auto hide = [&](int64_t t) {
      hidden[t] = words[t];
      const double kind = uniform(key, sample, 3 * t + 1);
      if (kind < 0.8) {
        words[t] = special.mask;
      } else if (kind < 0.9) {
        words[t] = words_[bounded(key, sample, 3 * t + 2, words_.size())];
      }
    };
    int64_t chosen = 0, likeliest = -1;
    double least = 1;
    for (int64_t t = 0; t < length; ++t) {
      if (special.contains(words[t])) continue;
      const double draw = uniform(key, sample, 3 * t);
      if (draw < least) least = draw, likeliest = t;
      if (draw >= rate_) continue;
      hide(t);
      ++chosen;
    }
    if (chosen == 0 && likeliest >= 0) hide(likeliest);
  }
  return batch;
}

}  // namespace tandem::data
