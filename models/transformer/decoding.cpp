#include "models/transformer/decoding.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

#include "autograd/error.h"
#include "autograd/inference.h"
#include "autograd/noise.h"
#include "autograd/parallel.h"
#include "ops/loops/row_reduce.h"
#include "ops/ops.h"

namespace tandem::models {
namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();

struct Candidate {
  double log_probability;
  int64_t row, id;
};

// The ids of the `count` largest logits, or of all, the largest first; of equal ones the smaller id.
Ids largest_ids(std::span<const float> logits, int64_t count) {
  const int64_t n = std::ssize(logits), block = std::clamp<int64_t>(n / (8 * count), 128, 1024);
  std::vector<float> tops;  // the largest of each block
  for (int64_t i = 0; i < n; i += block) tops.push_back(row_max(&logits[i], std::min(block, n - i)));
  // So many blocks have a number as large as `least` that no smaller one is wanted.
  float least = -std::numeric_limits<float>::infinity();
  if (count < std::ssize(tops) && !std::isnan(row_max(tops.data(), std::ssize(tops)))) {
    std::vector<float> order = tops;
    std::nth_element(order.begin(), order.begin() + count - 1, order.end(), std::greater<>());
    least = order[count - 1];
  }
  Ids ids;
  for (int64_t b = 0; b < std::ssize(tops); ++b) {
    if (tops[b] < least) continue;
    for (int64_t i = b * block; i < std::min(n, (b + 1) * block); ++i)
      if (!(logits[i] < least)) ids.push_back(i);
  }
  count = std::min(count, std::ssize(ids));
  std::partial_sort(ids.begin(), ids.begin() + count, ids.end(), [&](int64_t a, int64_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  });
  ids.resize(count);
  return ids;
}

// The `count` likeliest continuations of one row; with `only`, an id, that one alone.
std::vector<Candidate> best_of_row(std::span<const float> logits, int64_t row, double so_far, int64_t count,
                                   int64_t only) {
  const Ids ids = only >= 0 ? Ids{only} : largest_ids(logits, count);
  const float largest = only >= 0 ? row_max(logits.data(), std::ssize(logits)) : logits[ids[0]];
  const double sum = row_sum_exp(logits.data(), std::ssize(logits), largest);
  const double offset = so_far - largest - std::log(sum);
  std::vector<Candidate> best;
  for (const int64_t id : ids) best.push_back({offset + logits[id], row, id});
  return best;
}

// One text in a search: its live hypotheses have consecutive rows of the model's batch.
struct Search {
  struct Live {
    Ids ids;
    double log_probability = 0;
    int64_t row = 0;  // counted from the text's first
  };
  std::vector<Live> live{{}};
  Hypothesis best{{}, kNone};
  int64_t most = 0;

  double penalty(int64_t length, double power) const { return std::pow((5.0 + length) / 6.0, power); }

  // Adds a token to every live hypothesis, from the logits of the text's rows. Of each row that the text has
  // from now on, the row that it continues.
  Ids advance(const float* logits, int64_t vocab, const BeamOptions& o) {
    const auto length = static_cast<int64_t>(live[0].ids.size()) + 1;
    const bool last = length >= most;
    const int64_t wanted = o.beam == 1 ? 1 : 2 * o.beam;
    std::vector<Candidate> all;
    for (size_t i = 0; i < live.size(); ++i) {
      const auto row =
          best_of_row({logits + live[i].row * vocab, static_cast<size_t>(vocab)}, static_cast<int64_t>(i),
                      live[i].log_probability, wanted, last ? o.eos : -1);
      all.insert(all.end(), row.begin(), row.end());
    }
    std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
      return a.log_probability > b.log_probability;
    });
    if (std::ssize(all) > wanted) all.resize(wanted);
    std::vector<Live> next;
    for (const Candidate& c : all) {
      if (c.id == o.eos) {
        const double score = c.log_probability / penalty(length, o.length_penalty);
        if (score > best.score) best = {live[c.row].ids, score};
        continue;
      }
      if (static_cast<int64_t>(next.size()) == o.beam) continue;
      next.push_back({live[c.row].ids, c.log_probability, live[c.row].row});
      next.back().ids.push_back(c.id);
    }
    // Log-probabilities only decrease: a live one reaches at most its present one over the largest penalty.
    const bool beaten =
        best.score > kNone &&
        (o.beam == 1 || next.empty() ||
         next[0].log_probability / penalty(most, std::max(0.0, o.length_penalty)) <= best.score);
    if (beaten || last) next.clear();
    live = std::move(next);
    return arrange();
  }

  // Gives each hypothesis a row of its own, in place of its parent's, which the first child keeps.
  Ids arrange() {
    Ids parents(live.size(), -1);
    std::vector<Live*> others;
    for (Live& l : live) {
      const bool stays = l.row < std::ssize(parents) && parents[l.row] < 0;
      stays ? void(parents[l.row] = l.row) : others.push_back(&l);
    }
    auto free = parents.begin();
    for (Live* l : others) {
      free = std::find(free, parents.end(), -1);
      *free = std::exchange(l->row, free - parents.begin());
    }
    return parents;
  }
};

// Brings the rows of the model to what the hypotheses continue.
void follow(Transformer::State& state, const Ids& parents, bool same_sources, Device device) {
  const auto on_device = [&](const Ids& rows) { return from_values(rows, {std::ssize(rows)}).to(device); };
  if (!same_sources) return Transformer::select(state, on_device(parents));
  Ids from, to;
  for (int64_t row = 0; row < std::ssize(parents); ++row)
    if (parents[row] != row) from.push_back(parents[row]), to.push_back(row);
  if (!to.empty()) Transformer::copy_targets(state, on_device(from), on_device(to));
}

// Searches among the texts that may follow the sources of `state`.
void search_all(Transformer& model, Transformer::State state, const BeamOptions& o,
                std::vector<Search>& searches) {
  const Device device = model.device();
  const int64_t texts = std::ssize(searches);
  Ids next(texts, o.bos), first(texts + 1);  // the token of each row; the first row of each text
  std::iota(first.begin(), first.end(), 0);
  while (!next.empty()) {
    const Tensor ids = from_values(next, {std::ssize(next)}).to(device);
    const Tensor logits = model.step(state, ids).to(DType::f32).to(kCpu).contiguous();
    const int64_t vocab = logits.size(1);
    std::vector<Ids> parents(texts);
    parallel_for(texts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (searches[i].live.empty()) continue;
        parents[i] = searches[i].advance(logits.data<float>() + first[i] * vocab, vocab, o);
      }
    });
    Ids rows;
    const Ids before = first;
    for (int64_t i = 0; i < texts; ++i) {
      for (int64_t parent : parents[i]) rows.push_back(before[i] + parent);
      first[i + 1] = std::ssize(rows);
    }
    next.resize(rows.size());
    for (int64_t i = 0; i < texts; ++i)
      for (const Search::Live& live : searches[i].live) next[first[i] + live.row] = live.ids.back();
    if (!rows.empty()) follow(state, rows, first == before, device);
  }
}

}  // namespace

std::vector<Hypothesis> beam_search(Transformer& model, const std::vector<Ids>& sources,
                                    const BeamOptions& options) {
  if (sources.empty()) return {};
  const int64_t positions = model.config().max_positions, pad = model.config().pad_id;
  int64_t longest = 0;
  std::vector<Search> searches(sources.size());
  for (size_t i = 0; i < sources.size(); ++i) {
    const int64_t length = std::ssize(sources[i]) + 1;
    check<ValueError>(length > 1, "beam_search: source {} is empty", i);
    check<ShapeError>(length <= positions, "beam_search: source {} has {} tokens, the model has {} positions",
                      i, length, positions);
    longest = std::max(longest, length);
    searches[i].most = std::min(options.max_length > 0 ? options.max_length : 2 * length + 10, positions);
  }
  check<ConfigError>(options.beam >= 1, "beam: expected at least 1, got {}", options.beam);
  check<ConfigError>(std::isfinite(options.length_penalty),
                     "length_penalty: expected a finite number, got {}", options.length_penalty);
  const InferenceGuard inference;
  const auto count = static_cast<int64_t>(sources.size());
  Ids flat(count * longest, pad);
  for (int64_t i = 0; i < count; ++i) {
    std::copy(sources[i].begin(), sources[i].end(), flat.begin() + i * longest);
    flat[i * longest + std::ssize(sources[i])] = options.eos;
  }
  search_all(model, model.begin(from_values(flat, {count, longest}).to(model.device())), options, searches);
  std::vector<Hypothesis> best;
  for (Search& search : searches) best.push_back(std::move(search.best));
  return best;
}

int64_t choose(std::span<const float> logits, double u, const SampleOptions& o) {
  const int64_t n = std::ssize(logits);
  if (o.temperature == 0) return largest_ids(logits, 1)[0];
  const float largest = row_max(logits.data(), n);
  const auto sharper = static_cast<float>(std::min(1 / o.temperature, 1e30));
  const auto weight = [=](float x) { return math::exp_nonpositive((x - largest) * sharper); };
  const bool cut = o.top_k > 0 && o.top_k < n;
  double sum = cut ? 0 : detail::sum_terms<float>(n, weight, logits.data());
  // Most often few of the likeliest are enough to tell.
  for (int64_t count = cut ? o.top_k : std::min<int64_t>(n, 64);; count = std::min(n, 8 * count)) {
    const Ids order = largest_ids(logits, count);
    std::vector<double> p;
    for (const int64_t id : order)
      p.push_back(std::exp((static_cast<double>(logits[id]) - largest) / o.temperature));
    if (cut) sum = std::accumulate(p.begin(), p.end(), 0.0);
    double kept = 0;
    size_t end = 0;  // of what top_p leaves
    while (end < p.size() && (end == 0 || kept < o.top_p * sum)) kept += p[end++];
    const bool known = end < p.size() || cut || count == n;
    if (!known && o.top_p < 1) continue;
    double at = u * (known ? kept : sum);
    for (size_t i = 0; i < end; ++i)
      if ((at -= p[i]) < 0) return order[i];
    if (known) return order[end - 1];
  }
}

namespace {

void check_options(const Ids& prompt, int64_t count, const SampleOptions& o) {
  check<ValueError>(!prompt.empty(), "sample: the prompt is empty, expected at least one token");
  check<ConfigError>(count >= 1 && o.length >= 1,
                     "sample: expected at least one text of one token, got {} of {}", count, o.length);
  check<ConfigError>(o.temperature >= 0 && std::isfinite(o.temperature),
                     "temperature: expected a number >= 0, got {}", o.temperature);
  check<ConfigError>(o.top_k >= 0, "top_k: expected at least 0, got {}", o.top_k);
  check<ConfigError>(o.top_p > 0 && o.top_p <= 1, "top_p: expected a number in (0, 1], got {}", o.top_p);
}

// Texts that a language model goes on writing, each a row of its batch until it ends.
class Sampler {
 public:
  Sampler(LanguageModel& model, const Ids& prompt, int64_t count, const SampleOptions& options)
      : model_(model), options_(options), texts_(count, prompt), rows_(count) {
    std::iota(rows_.begin(), rows_.end(), 0);
    read();
  }

  // Adds token number n to every text that goes on; returns the rows of those that still do.
  Ids draw(int64_t n) {
    const Tensor logits = logits_.to(DType::f32).to(kCpu).contiguous();
    const int64_t vocab = logits.size(1);
    Ids drawn(rows_.size()), kept, going;
    parallel_for(std::ssize(rows_), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const double u = uniform(key_, static_cast<uint64_t>(rows_[i]), static_cast<uint64_t>(n));
        drawn[i] = choose({logits.data<float>() + i * vocab, static_cast<size_t>(vocab)}, u, options_);
      }
    });
    for (size_t i = 0; i < rows_.size(); ++i) {
      texts_[rows_[i]].push_back(drawn[i]);
      if (options_.stop_at_eos && drawn[i] == options_.eos) continue;
      kept.push_back(static_cast<int64_t>(i));
      going.push_back(rows_[i]);
    }
    rows_ = going;
    return kept;
  }

  // Reads the tokens drawn last, of the rows that were kept.
  void advance(const Ids& kept) {
    if (std::ssize(kept) < logits_.size(0)) LanguageModel::select(state_, on_device(kept));
    if (state_.position == model_.config().max_positions) return read();
    Ids last;
    for (const int64_t row : rows_) last.push_back(texts_[row].back());
    logits_ = model_.step(state_, on_device(last));
  }

  // What the texts have after a prompt of this length.
  std::vector<Ids> added(int64_t prompt) const {
    std::vector<Ids> all;
    for (const Ids& text : texts_) all.emplace_back(text.begin() + prompt, text.end());
    return all;
  }

 private:
  Tensor on_device(const Ids& ids) const { return from_values(ids, {std::ssize(ids)}).to(model_.device()); }

  // Reads the texts: a prompt that fits as a whole; or their ends anew, half of the positions, so that the
  // others are free.
  void read() {
    const int64_t have = std::ssize(texts_[rows_[0]]), positions = model_.config().max_positions,
                  length = have <= positions ? have : std::max<int64_t>(1, positions / 2);
    // A prompt is read once.
    const bool one = std::all_of(texts_.begin(), texts_.end(), [&](const Ids& t) { return t == texts_[0]; });
    Ids ids;
    for (const int64_t row : one ? Ids{rows_[0]} : rows_)
      ids.insert(ids.end(), texts_[row].end() - length, texts_[row].end());
    state_ = model_.begin();
    logits_ = model_.step(state_, on_device(ids).view({std::ssize(ids) / length, length}));
    if (!one) return;
    const Tensor copies = on_device(Ids(rows_.size(), 0));
    LanguageModel::select(state_, copies);
    logits_ = index_select(logits_, 0, copies);
  }

  LanguageModel& model_;
  const SampleOptions& options_;
  const NoiseKey key_ = noise_key(options_.seed, 0, site_hash("sample"), 0, Purpose::sampling);
  std::vector<Ids> texts_;  // with their prompts
  Ids rows_;                // the text of each row
  LanguageModel::State state_;
  Tensor logits_;  // of what follows, [rows, vocabulary]
};

}  // namespace

std::vector<Ids> sample(LanguageModel& model, const Ids& prompt, int64_t count, const SampleOptions& o) {
  check_options(prompt, count, o);
  const InferenceGuard inference;
  Sampler sampler(model, prompt, count, o);
  for (int64_t n = 0; n < o.length; ++n) {
    const Ids going = sampler.draw(n);
    if (going.empty() || n + 1 == o.length) break;
    sampler.advance(going);
  }
  return sampler.added(std::ssize(prompt));
}

}  // namespace tandem::models
