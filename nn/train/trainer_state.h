// What a training has come to, for the parts of Trainer.
#pragma once

#include <chrono>
#include <future>

#include "nn/train/checkpoint.h"
#include "nn/train/trainer.h"

namespace tandem::nn {

// Beside what is saved: times, and what is being written.
struct Trainer::State : RunState {
  using Clock = std::chrono::steady_clock;  // of all times here

  int64_t trained = 0;  // samples since `start`, from which the time that is left is estimated
  Clock::time_point start = Clock::now();  // of this process's part of the training
  double later = 0;                        // samples of the trainings that follow

  std::future<void> writing = {};          // last.safetensors, beside the training
  Clock::time_point saved = Clock::now();  // last

  std::optional<int64_t> checkpoint = {};    // the step that last.safetensors, of this run, is of
  std::optional<int64_t> gone_back_to = {};  // by TrainerOptions::on_nan
  bool told_of_skipping = false;

  // At both ends of its life nothing is being written: the folder is locked by then, or no more.
  struct Written {
    State& state;
    explicit Written(State& state) : state(state) { wait(); }
    ~Written() { wait(); }
    void wait() const {
      if (state.writing.valid()) state.writing.wait();
    }
  };

  // last.safetensors is of this moment, or will be. Where nothing was learned since it was gone back to
  // another, it is that one.
  void has_checkpoint() {
    saved = Clock::now(), checkpoint = step;
    if (skipped_in_row > 0) gone_back_to = step;
  }

  // Until now.
  static double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }
  // That so many samples, and the trainings that follow, will take at the rate so far.
  double seconds_left(int64_t samples) const {
    return seconds_since(start) / static_cast<double>(trained) * (static_cast<double>(samples) + later);
  }
};

}  // namespace tandem::nn
