// Which rank keeps the others waiting: what a rank that watches makes of the signs of life that come from
// all.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tandem::nn {

// A sign of life, as it is sent.
struct LifeSign {
  enum Doing : int64_t { other, step, waiting };  // waiting: for the other ranks
  int64_t doing = other;                          // Doing
  int64_t at_step = 0;                            // of the optimizer
  int64_t calls = 0;                              // that other ranks took part in, so far
};

class Watch {
 public:
  using Clock = std::chrono::steady_clock;              // of all times here
  static constexpr std::chrono::seconds kSilence{20};   // of a process that is stopped, or its machine
  static constexpr std::chrono::seconds kPatience{40};  // of those that wait in a step

  // Of so many ranks, all of which were heard of at `now`.
  Watch(int ranks, Clock::time_point now);
  void heard(int rank, const LifeSign& sign, Clock::time_point now);
  // The rank that has been silent, or at one step while others waited, for too long, in words; empty while
  // all is well.
  std::optional<std::string> trouble(Clock::time_point now) const;

 private:
  struct Rank {
    LifeSign sign;
    Clock::time_point heard, since;  // last, and since when the sign has been the same
  };
  std::vector<Rank> ranks_;
};

}  // namespace tandem::nn
