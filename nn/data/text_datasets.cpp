#include "nn/data/text_datasets.h"

#include <algorithm>
#include <numeric>

#include "autograd/error.h"
#include "autograd/noise.h"

namespace tandem::data {
namespace {

std::vector<Indices> cut_by_length(const Indices& order, const std::vector<int64_t>& lengths, int64_t budget,
                                   bool tokens) {
  check<ConfigError>(budget >= 1, "batch_size: expected at least 1, got {}", budget);
  std::vector<Indices> batches;
  int64_t longest = 0;
  for (int64_t i : order) {
    const int64_t length = std::max(longest, lengths[i]);
    const int64_t count = batches.empty() ? 1 : static_cast<int64_t>(batches.back().size()) + 1;
    if (batches.empty() || (tokens ? count * length : count) > budget) {
      batches.emplace_back();
      longest = lengths[i];
    } else {
      longest = length;
    }
    batches.back().push_back(i);
  }
  return batches;
}

// Rows of the longest's length, the rest `pad`.
Tensor padded(const std::vector<Ids>& rows, int64_t pad) {
  size_t longest = 1;
  for (const Ids& row : rows) longest = std::max(longest, row.size());
  const Tensor out = zeros({static_cast<int64_t>(rows.size()), static_cast<int64_t>(longest)}, {DType::i64});
  int64_t* to = out.data<int64_t>();
  std::fill_n(to, out.numel(), pad);
  for (size_t i = 0; i < rows.size(); ++i) std::copy(rows[i].begin(), rows[i].end(), to + i * longest);
  return out;
}

void check_index(int64_t i, int64_t size) {
  check<ValueError>(i >= 0 && i < size, "batch: index {} of {} samples", i, size);
}

}  // namespace

std::vector<Indices> ordered_by_length(const std::vector<int64_t>& lengths, int64_t budget, bool tokens) {
  Indices order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return lengths[a] < lengths[b]; });
  return cut_by_length(order, lengths, budget, tokens);
}

std::vector<Indices> shuffled_by_length(const std::vector<int64_t>& lengths, uint64_t seed, int64_t epoch,
                                        int64_t budget, bool tokens) {
  Indices order = shuffled(std::ssize(lengths), seed, epoch);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return lengths[a] < lengths[b]; });
  const std::vector<Indices> sorted = cut_by_length(order, lengths, budget, tokens);
  std::vector<Indices> batches;
  for (int64_t i : shuffled(std::ssize(sorted), seed, epoch, 1)) batches.push_back(sorted[i]);
  return batches;
}

std::vector<Indices> ByLength::shuffled_batches(uint64_t seed, int64_t epoch, int64_t batch_size) const {
  return shuffled_by_length(lengths(), seed, epoch, batch_size, counts_tokens_);
}
std::vector<Indices> ByLength::ordered_batches(int64_t batch_size) const {
  return ordered_by_length(lengths(), batch_size, counts_tokens_);
}

PairDataset::PairDataset(std::vector<Ids> source, std::vector<Ids> target, int64_t longest, TooLong too_long,
                         SpecialIds special)
    : ByLength(true), special_(std::move(special)) {
  special_.padding("pairs");
  check<ValueError>(source.size() == target.size(), "pairs: {} sources, but {} targets", source.size(),
                    target.size());
  const int64_t least = 1 + special_.around_side();
  check<ConfigError>(longest >= least, "pairs: longest: expected at least {}, got {}", least, longest);
  const auto most = static_cast<size_t>(longest - special_.around_side());  // with bos or eos
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i].size() > most || target[i].size() > most) {
      if (too_long == TooLong::skip) {
        ++left_out_;
        continue;
      }
      ++cut_;
      source[i].resize(std::min(source[i].size(), most));
      target[i].resize(std::min(target[i].size(), most));
    }
    source_.push_back(std::move(source[i]));
    target_.push_back(std::move(target[i]));
  }
  check<ValueError>(!source_.empty(), "pairs: none left, of {} longer than {} tokens", left_out_, longest);
}

std::vector<int64_t> PairDataset::lengths() const {
  std::vector<int64_t> lengths(source_.size());
  for (size_t i = 0; i < lengths.size(); ++i)
    lengths[i] =
        static_cast<int64_t>(std::max(source_[i].size(), target_[i].size())) + special_.around_side();
  return lengths;
}

Batch PairDataset::batch(std::span<const int64_t> indices, const BatchContext&) const {
  std::vector<Ids> source, target_in, target;
  for (int64_t i : indices) {
    check_index(i, size());
    source.push_back(special_.side(source_[i]));
    source.back().push_back(special_.eos);
    Ids side = special_.side(target_[i]);
    target_in.push_back({special_.start});
    target_in.back().insert(target_in.back().end(), side.begin(), side.end());
    side.push_back(special_.eos);
    target.push_back(std::move(side));
  }
  const auto rows = [this](const std::vector<Ids>& ids) { return padded(ids, special_.pad); };
  return {{rows(source), rows(target_in)}, rows(target), {}, static_cast<int64_t>(indices.size())};
}

LanguageModelDataset::LanguageModelDataset(Ids tokens, int64_t length, int64_t context, int64_t pad)
    : tokens_(std::move(tokens)), length_(length), context_(context), pad_(pad) {
  check<ConfigError>(length >= 1, "language model: length: expected at least 1, got {}", length);
  check<ConfigError>(context >= 0 && context < length,
                     "language model: context: expected 0 to below the length {}, got {}", length, context);
  check<ValueError>(tokens_.size() >= 2, "language model: expected at least 2 tokens, got {}",
                    tokens_.size());
}

int64_t LanguageModelDataset::size() const { return std::ssize(ordered_batches(1)); }

std::vector<Indices> LanguageModelDataset::ordered_batches(int64_t batch_size) const {
  Indices starts;
  for (int64_t at = 0; at < targets(); at += at == 0 ? length_ : length_ - context_)
    starts.push_back(at == 0 ? 0 : at - context_);
  return cut_batches(starts, batch_size);
}

std::vector<Indices> LanguageModelDataset::shuffled_batches(uint64_t seed, int64_t epoch,
                                                            int64_t batch_size) const {
  // The first cut is drawn; what comes before it is this epoch's loss.
  const int64_t spare = std::max<int64_t>(1, std::min(length_, targets() - length_ + 1));
  const NoiseKey key = noise_key(seed, static_cast<uint64_t>(epoch), site_hash("epoch"), 0, Purpose::shuffle);
  const auto first = static_cast<int64_t>(bounded(key, 0, 0, static_cast<uint64_t>(spare)));
  Indices order;
  for (int64_t i : shuffled((targets() - first + length_ - 1) / length_, seed, epoch, 1))
    order.push_back(first + i * length_);
  return cut_batches(order, batch_size);
}

Batch LanguageModelDataset::batch(std::span<const int64_t> indices, const BatchContext& context) const {
  const int64_t skipped = context.training ? 0 : context_;
  std::vector<Ids> inputs, targets;
  for (int64_t at : indices) {
    check_index(at, this->targets());
    const int64_t end = std::min(at + length_, this->targets());
    inputs.emplace_back(tokens_.begin() + at, tokens_.begin() + end);
    targets.emplace_back(tokens_.begin() + at + 1, tokens_.begin() + end + 1);
    // The targets of the context count in the block before.
    if (at > 0) std::fill_n(targets.back().begin(), std::min(skipped, end - at), pad_);
  }
  return {{padded(inputs, std::max<int64_t>(pad_, 0))},
          padded(targets, pad_),
          {},
          static_cast<int64_t>(indices.size())};
}

TextDataset::TextDataset(std::vector<Ids> first, std::vector<Ids> second, std::vector<int64_t> labels,
                         int64_t longest, PairLayout layout, SpecialIds special)
    : ByLength(false), special_(std::move(special)), labels_(std::move(labels)) {
  lay_out(std::move(first), std::move(second), labels_.size(), longest, layout);
}

TextDataset::TextDataset(std::vector<Ids> first, std::vector<Ids> second, std::vector<double> scores,
                         int64_t longest, PairLayout layout, SpecialIds special)
    : ByLength(false), special_(std::move(special)), scores_(std::move(scores)) {
  lay_out(std::move(first), std::move(second), scores_.size(), longest, layout);
}

void TextDataset::lay_out(std::vector<Ids> first, std::vector<Ids> second, size_t targets, int64_t longest,
                          PairLayout layout) {
  check<ValueError>(!first.empty() && first.size() == targets && (second.empty() || second.size() == targets),
                    "texts: {} first and {} second ones for {} targets", first.size(), second.size(),
                    targets);
  special_.padding("texts");
  const bool joined = !second.empty() && layout == PairLayout::joined;
  const int64_t around = special_.around(joined), least = around + (joined ? 2 : 1);
  check<ConfigError>(longest >= least, "texts: longest: expected at least {}, got {}", least, longest);
  const auto room = static_cast<size_t>(longest - around);
  for (size_t i = 0; i < targets; ++i) {
    Ids& a = first[i];
    Ids b = second.empty() ? Ids() : std::move(second[i]);
    const size_t whole = a.size() + b.size();
    if (joined) {
      while (a.size() + b.size() > room) (a.size() >= b.size() ? a : b).pop_back();
    } else {
      a.resize(std::min(a.size(), room)), b.resize(std::min(b.size(), room));
    }
    cut_ += a.size() + b.size() < whole;
    int64_t first_length = 0;
    Ids row = joined ? special_.row(a, b, first_length) : special_.row(a);
    first_length_.push_back(joined ? first_length : std::ssize(row));
    if (!joined && !second.empty()) second_.push_back(special_.row(b));
    ids_.push_back(std::move(row));
  }
}

std::vector<int64_t> TextDataset::lengths() const {
  std::vector<int64_t> lengths;
  for (const Ids& row : ids_) lengths.push_back(std::ssize(row));
  return lengths;
}

Batch TextDataset::batch(std::span<const int64_t> indices, const BatchContext&) const {
  std::vector<Ids> ids, others;  // segments, or the second texts
  std::vector<int64_t> labels;
  std::vector<float> scores;
  for (int64_t i : indices) {
    check_index(i, size());
    ids.push_back(ids_[i]);
    if (second_.empty()) {
      others.emplace_back(ids_[i].size(), 1);
      std::fill_n(others.back().begin(), first_length_[i], 0);
    } else {
      others.push_back(second_[i]);
    }
    if (!labels_.empty()) labels.push_back(labels_[i]);
    if (!scores_.empty()) scores.push_back(static_cast<float>(scores_[i]));
  }
  const auto count = static_cast<int64_t>(indices.size());
  return {{padded(ids, special_.pad), padded(others, second_.empty() ? 0 : special_.pad)},
          labels_.empty() ? from_values(scores, {count}) : from_values(labels, {count}),
          {},
          count};
}

}  // namespace tandem::data
