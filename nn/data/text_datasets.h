// Encoded texts as data sets: ids i64, padded at the end to the longest of the batch. SpecialIds are those of
// the vocabulary: ConfigError where it lacks one that is needed.
// Texts of similar length share a batch.
#pragma once

#include "nn/data/dataset.h"
#include "nn/data/vocabulary.h"

namespace tandem::data {

// What becomes of a text of more ids than a model has positions.
enum class TooLong { cut, skip };

// Samples of similar length share a batch.
class ByLength : public Dataset {
 public:
  std::vector<Indices> shuffled_batches(uint64_t seed, int64_t epoch, int64_t batch_size) const override;
  std::vector<Indices> ordered_batches(int64_t batch_size) const override;  // by length

 protected:
  explicit ByLength(bool counts_tokens) : counts_tokens_(counts_tokens) {}
  virtual std::vector<int64_t> lengths() const = 0;  // of the samples

 private:
  bool counts_tokens_;  // batch_size is of tokens with padding, not of samples
};

// Pairs of texts, as models::SequenceToSequence takes them: inputs {source [B, S] = ids, eos; target_in [B,
// T] = bos, ids}; target [B, T] = ids, eos, or as `special` has it. batch_size counts tokens: pairs times the
// longest text of either side, with padding. A pair that is larger is a batch of its own.
class PairDataset final : public ByLength {
 public:
  // Texts of more than `longest` ids with their eos are cut or left out. ValueError unless both sides have
  // the same number of texts, at least one.
  PairDataset(std::vector<Ids> source, std::vector<Ids> target, int64_t longest, TooLong too_long,
              SpecialIds special = {});

  int64_t size() const override { return static_cast<int64_t>(source_.size()); }
  Batch batch(std::span<const int64_t> indices, const BatchContext& context) const override;

  const std::vector<Ids>& source() const { return source_; }  // of each pair, as batches have it
  int64_t cut() const { return cut_; }                        // how many texts were too long
  int64_t left_out() const { return left_out_; }              // how many pairs were

 private:
  std::vector<int64_t> lengths() const override;
  SpecialIds special_;
  std::vector<Ids> source_, target_;
  int64_t cut_ = 0, left_out_ = 0;
};

// A text of tokens in blocks for a language model: inputs {ids [B, T]}, target [B, T] the tokens after them.
class LanguageModelDataset final : public Dataset {
 public:
  // Blocks of `length` targets. In evaluation each sees up to `context` (below length) tokens before, whose
  // own targets do not count, so that every token counts once: they are `pad`, which may be -1. ValueError
  // below two tokens.
  LanguageModelDataset(Ids tokens, int64_t length, int64_t context = 0, int64_t pad = SpecialIds().pad);

  int64_t size() const override;  // blocks
  // Indices are positions of the blocks' first inputs.
  Batch batch(std::span<const int64_t> indices, const BatchContext& context) const override;
  // batch_size counts blocks. Each epoch cuts at another place.
  std::vector<Indices> shuffled_batches(uint64_t seed, int64_t epoch, int64_t batch_size) const override;
  std::vector<Indices> ordered_batches(int64_t batch_size) const override;

  // Tokens that are predicted: all but the first.
  int64_t targets() const { return static_cast<int64_t>(tokens_.size()) - 1; }

 private:
  Ids tokens_;
  int64_t length_, context_, pad_;
};

// How a model reads a pair of texts: as one text (BERT's), or one by one (a bi-encoder's).
enum class PairLayout { joined, separate };

// Texts or pairs of texts with a label (i64) or a score (f32), target [B]. In BERT's layout: inputs {ids [B,
// T] = bos, ids, eos[, ids, eos]; segments [B, T] = 0 up to the first eos, 1 after it}, or as `special` has
// it (SpecialIds::row). Separate pairs: inputs {ids [B, T] = bos, ids, eos; the same of the second ones [B,
// T']}. batch_size counts samples.
class TextDataset final : public ByLength {
 public:
  // `second` is empty for single texts. The longer of a joined pair is cut first where both do not fit.
  // ValueError unless all parts have the same number of entries, at least one.
  TextDataset(std::vector<Ids> first, std::vector<Ids> second, std::vector<int64_t> labels, int64_t longest,
              PairLayout layout = PairLayout::joined, SpecialIds special = {});
  TextDataset(std::vector<Ids> first, std::vector<Ids> second, std::vector<double> scores, int64_t longest,
              PairLayout layout = PairLayout::joined, SpecialIds special = {});

  int64_t size() const override { return static_cast<int64_t>(ids_.size()); }
  Batch batch(std::span<const int64_t> indices, const BatchContext& context) const override;

  int64_t cut() const { return cut_; }  // how many texts were too long
  const SpecialIds& special() const { return special_; }

 private:
  void lay_out(std::vector<Ids> first, std::vector<Ids> second, size_t targets, int64_t longest,
               PairLayout layout);
  std::vector<int64_t> lengths() const override;
  SpecialIds special_;
  std::vector<Ids> ids_, second_;      // second_: of separate pairs
  std::vector<int64_t> first_length_;  // of segment 0
  std::vector<int64_t> labels_;
  std::vector<double> scores_;
  int64_t cut_ = 0;
};

// Batches of samples of similar length: at most `budget` samples, or with `tokens` that many tokens with
// padding, but one sample at least. They come in random order, by (seed, epoch), or by length.
std::vector<Indices> shuffled_by_length(const std::vector<int64_t>& lengths, uint64_t seed, int64_t epoch,
                                        int64_t budget, bool tokens);
std::vector<Indices> ordered_by_length(const std::vector<int64_t>& lengths, int64_t budget, bool tokens);

}  // namespace tandem::data
