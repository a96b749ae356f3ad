// Time and bytes per op, forward and backward, while a Profiler is in scope on this thread. The time is the
// device's: of the work that was given to it by the op, and what it idles before the next op's is given.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace tandem {

class Profiler {
 public:
  // The runs of one op in one direction.
  struct Row {
    int64_t calls = 0;   // how many
    int64_t bytes = 0;   // of the inputs and the output
    double seconds = 0;  // on the device
  };

  [[nodiscard("it acts while it lives: give it a name")]] explicit Profiler(Device device = kCpu);
  ~Profiler();
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  const std::map<std::string, Row>& rows() const;  // waits for the device
  std::string table() const;                       // aligned text, the slowest first
  static Profiler* current();                      // the innermost of this thread, or null

 private:
  friend class ProfileScope;
  struct Timed {  // a run of an op that the device may not have reached
    Row* row;
    std::unique_ptr<Mark> start, end;
  };
  void settle() const;

  Backend& backend_;
  mutable std::map<std::string, Row> rows_;
  mutable std::vector<Timed> timed_;
  Profiler* outer_;
};

// Used by record() and the engine: one run of one op. The backward's time includes that of the ops it calls.
class ProfileScope {
 public:
  ProfileScope(const char* op, bool backward) : profiler_(Profiler::current()) {
    if (profiler_) [[unlikely]]
      start(op, backward);
  }
  ~ProfileScope() {
    if (profiler_) [[unlikely]]
      stop();
  }
  // Adds the bytes of what the op read and wrote.
  void count(const Tensors& inputs, const Tensor& output) {
    if (profiler_) [[unlikely]]
      add_bytes(inputs, output);
  }

 private:
  void start(const char* op, bool backward);
  void stop() noexcept;
  void add_bytes(const Tensors& inputs, const Tensor& output);

  Profiler* profiler_;
  Profiler::Row* row_ = nullptr;
  std::unique_ptr<Mark> start_;
};

}  // namespace tandem
