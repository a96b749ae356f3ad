// Ranks: the processes of one training, each of which computes a part of every batch (data parallel). What
// joins them, MPI, is a module that is loaded at run time (nn/ranks/join.h); the rest of the library knows
// this interface alone.
//
// All ranks make the same calls in the same order: a sum waits for the others' part of it. Where an exception
// destroys this object, the other ranks end when this process does, with its exit status.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

class Tensor;

class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual int rank() const = 0;               // this process, from 0
  virtual int size() const = 0;               // how many there are
  bool first() const { return rank() == 0; }  // whether it is the one that shows and writes

  // Each number becomes its sum over the first `count` ranks, which alone call this: the same bits on all of
  // them, and every time.
  virtual void sum(std::span<double> numbers, int count) = 0;
  void sum(std::span<double> numbers) { sum(numbers, size()); }
  // What each rank gave, by rank.
  virtual std::vector<std::string> gather(const std::string& mine) = 0;

  // Begins to replace x, contiguous, f32 or f64, by its sum over all ranks, while this thread goes on; it has
  // the sum after end_sums(). progress() moves the sums that were begun along.
  virtual void begin_sum(const Tensor& x) = 0;
  virtual void progress() = 0;
  virtual void end_sums() = 0;

  // What a rank is at, for those that watch over it. While the others wait in a step for one that does not
  // come, that one hangs; other work (reading, validating, saving) may take its time.
  enum class Work { step, other };
  virtual void is_at(Work work, int64_t step) = 0;
};

// The ranks that compute a micro-batch together, each its own samples: statistics of a batch are of all.
struct RankGroup {
  Ranks* ranks = nullptr;  // null: this process alone
  int count = 1;           // the first so many of them
};

}  // namespace tandem
