#include "models/transformer/decoding.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "autograd/noise.h"
#include "autograd/parallel.h"
#include "ops/ops.h"

namespace tandem::models {
namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();

struct Candidate {
  double log_probability;
  int64_t row, id;
};

// The `count` likeliest continuations of one row; or `only` that one.
std::vector<Candidate> best_of_row(const float* logits, int64_t vocab, int64_t row, double so_far,
                                   int64_t count, int64_t only) {
  const float largest = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int64_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(logits[v] - largest));
  const double offset = so_far - largest - std::log(sum);
  if (only >= 0) return {{offset + logits[only], row, only}};
  std::vector<Candidate> best;  // sorted
  for (int64_t v = 0; v < vocab; ++v) {
    const double value = offset + logits[v];
    const bool full = std::ssize(best) == count;
    if (full && value <= best.back().log_probability) continue;
    if (full) best.pop_back();
    const auto at = std::upper_bound(best.begin(), best.end(), value,
                                     [](double a, const Candidate& b) { return a > b.log_probability; });
    best.insert(at, {value, row, v});
  }
  return best;
}

// One text in a search: its live hypotheses are consecutive rows of the model's batch.
struct Search {
  struct Live {
    Ids ids;
    double log_probability = 0;
  };
  std::vector<Live> live{{}};
  Hypothesis best{{}, kNone};
  int64_t most = 0;

  double penalty(int64_t length, double power) const { return std::pow((5.0 + length) / 6.0, power); }

  // Goes on by one token; parents[i] is the row that hypothesis i continues.
  void advance(const float* logits, int64_t vocab, const BeamOptions& o, std::vector<int64_t>& parents) {
    const auto length = static_cast<int64_t>(live[0].ids.size()) + 1;
    const bool last = length >= most;
    const int64_t wanted = o.beam == 1 ? 1 : 2 * o.beam;
    std::vector<Candidate> all;
    for (size_t i = 0; i < live.size(); ++i) {
      const auto row = best_of_row(logits + i * vocab, vocab, static_cast<int64_t>(i),
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
      next.push_back({live[c.row].ids, c.log_probability});
      next.back().ids.push_back(c.id);
      parents.push_back(c.row);
    }
    live = std::move(next);
    // Log-probabilities only fall: the most a live one can reach is its own over the largest penalty.
    const bool beaten =
        best.score > kNone &&
        (o.beam == 1 || live.empty() ||
         live[0].log_probability / penalty(most, std::max(0.0, o.length_penalty)) <= best.score);
    if (beaten || last) {
      live.clear();
      parents.clear();
    }
  }
};

}  // namespace

std::vector<Hypothesis> beam_search(const StepFunctions& model, int64_t texts,
                                    const std::vector<int64_t>& most, const BeamOptions& o) {
  check<ConfigError>(o.beam >= 1, "beam: expected at least 1, got {}", o.beam);
  check<ConfigError>(std::isfinite(o.length_penalty), "length_penalty: expected a finite number, got {}",
                     o.length_penalty);
  const NoGradGuard no_grad;
  std::vector<Search> searches(texts);
  for (int64_t i = 0; i < texts; ++i) {
    check<ConfigError>(most[i] >= 1, "max_length: expected at least 1, got {}", most[i]);
    searches[i].most = most[i];
  }
  std::vector<int64_t> next(texts, o.bos);
  while (!next.empty()) {
    const Tensor logits =
        model.step(from_values(next, {std::ssize(next)})).to(DType::f32).to(kCpu).contiguous();
    const int64_t vocab = logits.size(1);
    std::vector<int64_t> first(texts + 1);  // row of each text
    for (int64_t i = 0; i < texts; ++i) first[i + 1] = first[i] + std::ssize(searches[i].live);
    std::vector<std::vector<int64_t>> parents(texts);
    parallel_for(texts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (searches[i].live.empty()) continue;
        searches[i].advance(logits.data<float>() + first[i] * vocab, vocab, o, parents[i]);
      }
    });
    std::vector<int64_t> rows;
    next.clear();
    for (int64_t i = 0; i < texts; ++i) {
      for (int64_t parent : parents[i]) rows.push_back(first[i] + parent);
      for (const Search::Live& live : searches[i].live) next.push_back(live.ids.back());
    }
    std::vector<int64_t> same(logits.size(0));
    std::iota(same.begin(), same.end(), 0);
    if (!rows.empty() && rows != same) model.select(from_values(rows, {std::ssize(rows)}));
  }
  std::vector<Hypothesis> best;
  for (Search& search : searches) best.push_back(std::move(search.best));
  return best;
}

std::vector<Hypothesis> beam_search(Transformer& model, const std::vector<Ids>& sources,
                                    const BeamOptions& options) {
  if (sources.empty()) return {};
  const int64_t positions = model.config().max_positions, pad = model.config().pad_id;
  int64_t longest = 0;
  std::vector<int64_t> most;
  for (size_t i = 0; i < sources.size(); ++i) {
    const int64_t length = std::ssize(sources[i]) + 1;
    check<ValueError>(length > 1, "beam_search: source {} is empty", i);
    check<ShapeError>(length <= positions, "beam_search: source {} has {} tokens, the model has {} positions",
                      i, length, positions);
    longest = std::max(longest, length);
    most.push_back(std::min(options.max_length > 0 ? options.max_length : 2 * length + 10, positions));
  }
  const NoGradGuard no_grad;
  const auto count = static_cast<int64_t>(sources.size());
  Ids flat(count * longest, pad);
  for (int64_t i = 0; i < count; ++i) {
    std::copy(sources[i].begin(), sources[i].end(), flat.begin() + i * longest);
    flat[i * longest + std::ssize(sources[i])] = options.eos;
  }
  const Device device = model.device();
  Transformer::State state = model.begin(from_values(flat, {count, longest}).to(device));
  return beam_search({[&](const Tensor& ids) { return model.step(state, ids.to(device)); },
                      [&](const Tensor& rows) { Transformer::select(state, rows.to(device)); }},
                     count, most, options);
}

int64_t choose(const std::vector<float>& logits, double u, const SampleOptions& o) {
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
  if (o.temperature == 0) return order[0];
  if (o.top_k > 0 && o.top_k < std::ssize(order)) order.resize(o.top_k);
  std::vector<double> p(order.size());
  double sum = 0;
  for (size_t i = 0; i < order.size(); ++i)
    sum += p[i] = std::exp((static_cast<double>(logits[order[i]]) - logits[order[0]]) / o.temperature);
  double kept = 0;
  size_t count = 0;
  while (count < p.size() && (count == 0 || kept < o.top_p * sum)) kept += p[count++];
  double at = u * kept;
  for (size_t i = 0; i < count; ++i)
    if ((at -= p[i]) < 0) return order[i];
  return order[count - 1];
}

std::vector<Ids> sample(LanguageModel& model, const Ids& prompt, int64_t count, const SampleOptions& o) {
  check<ValueError>(!prompt.empty(), "sample: the prompt is empty, expected at least one token");
  check<ConfigError>(count >= 1 && o.length >= 1,
                     "sample: expected at least one text of one token, got {} of {}", count, o.length);
  check<ConfigError>(o.temperature >= 0 && std::isfinite(o.temperature),
                     "temperature: expected a number >= 0, got {}", o.temperature);
  check<ConfigError>(o.top_k >= 0, "top_k: expected at least 0, got {}", o.top_k);
  check<ConfigError>(o.top_p > 0 && o.top_p <= 1, "top_p: expected a number in (0, 1], got {}", o.top_p);
  const NoGradGuard no_grad;
  const int64_t positions = model.config().max_positions;
  std::vector<Ids> texts(count, prompt);
  std::vector<int64_t> rows(count);  // those that go on
  std::iota(rows.begin(), rows.end(), 0);
  LanguageModel::State state = model.begin();
  const auto on_device = [&](const Ids& ids) {
    return from_values(ids, {std::ssize(ids)}).to(model.device());
  };
  Tensor logits;
  // Reads the end of the texts, as much as there is room for, and keeps half of the positions free.
  const auto read = [&] {
    state = model.begin();
    const int64_t have = std::ssize(texts[rows[0]]);
    for (int64_t at = have <= positions / 2 ? 0 : have - positions / 2; at < have; ++at) {
      Ids ids;
      for (int64_t row : rows) ids.push_back(texts[row][at]);
      logits = model.step(state, on_device(ids));
    }
  };
  read();
  const NoiseKey key = noise_key(o.seed, 0, site_hash("sample"), 0, Purpose::sampling);
  for (int64_t n = 0; n < o.length && !rows.empty(); ++n) {
    const auto values = logits.to(DType::f32).to_vector<float>();
    const auto vocab = static_cast<size_t>(logits.size(1));
    std::vector<int64_t> kept, going;
    Ids next;
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::vector<float> row(values.begin() + i * vocab, values.begin() + (i + 1) * vocab);
      const int64_t id =
          choose(row, uniform(key, static_cast<uint64_t>(rows[i]), static_cast<uint64_t>(n)), o);
      texts[rows[i]].push_back(id);
      if (o.stop_at_eos && id == o.eos) continue;
      kept.push_back(static_cast<int64_t>(i));
      going.push_back(rows[i]);
      next.push_back(id);
    }
    const bool all = kept.size() == rows.size();
    rows = going;
    if (rows.empty() || n + 1 == o.length) break;
    if (!all) LanguageModel::select(state, on_device(kept));
    if (state.position == positions) {
      read();
    } else {
      logits = model.step(state, on_device(next));
    }
  }
  for (Ids& text : texts) text.erase(text.begin(), text.begin() + std::ssize(prompt));
  return texts;
}

}  // namespace tandem::models
