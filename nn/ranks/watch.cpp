#include "nn/ranks/watch.h"

#include <fmt/format.h>

namespace tandem::nn {

Watch::Watch(int ranks, Clock::time_point now) : ranks_(ranks, Rank{{}, now, now}) {}

void Watch::heard(int rank, const LifeSign& sign, Clock::time_point now) {
  Rank& known = ranks_.at(rank);
  const bool same =
      sign.doing == known.sign.doing && sign.at_step == known.sign.at_step && sign.calls == known.sign.calls;
  known = {sign, now, same ? known.since : now};
}

std::optional<std::string> Watch::trouble(Clock::time_point now) const {
  bool wait = false;  // for longer than they have patience
  for (const Rank& rank : ranks_)
    wait = wait || (rank.sign.doing == LifeSign::waiting && now - rank.since > kPatience);
  for (size_t i = 0; i < ranks_.size(); ++i) {
    const Rank& rank = ranks_[i];
    if (now - rank.heard > kSilence)
      return fmt::format("rank {} has given no sign of life for {} seconds; it was at step {}", i,
                         kSilence.count(), rank.sign.at_step);
    if (wait && rank.sign.doing == LifeSign::step && now - rank.since > kPatience)
      return fmt::format("rank {} has been at step {} for {} seconds while others wait for it", i,
                         rank.sign.at_step, kPatience.count());
  }
  return {};
}

}  // namespace tandem::nn
