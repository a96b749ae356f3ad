// How `tandem bench` takes times.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace tandem::command {

// What one run moves and computes, where that is known.
struct Work {
  double bytes = 0, flops = 0;
};

// The times of some runs.
struct Measurement {
  std::string name;
  double median = 0, low = 0, high = 0;  // seconds
  Work work;
  double peak_bytes = 0;     // of the device's allocator, above what was there before
  int64_t system_calls = 0;  // for memory, in all of the timed runs
};

class Bench {
 public:
  explicit Bench(int repeat) : repeat_(repeat) {}

  // Times run() after two warm-up runs and prints its row.
  Measurement measure(const std::string& name, Work work, const std::function<void()>& run);
  // The same without a row. Each run calls prepare() first, whose time does not count.
  Measurement time(const std::string& name, Work work, const std::function<void()>& prepare,
                   const std::function<void()>& run) const;
  static void header(const std::string& title);

  void add(nlohmann::json row) { rows_.push_back(std::move(row)); }  // to the file of --json
  const nlohmann::json& json() const { return rows_; }               // an array of all rows

 private:
  int repeat_;
  nlohmann::json rows_ = nlohmann::json::array();
};

// A plain copy of f32: what any pass over memory takes.
void plain_copy(const Tensor& from, const Tensor& to);
// Every op at a natural size, of [rows, 1024] where it has one, beside what a copy and products take here.
void bench_ops(Bench& bench, int64_t rows);

// A call of an op at a natural size. Its inputs are made when it is measured.
struct OpCall {
  std::string op, label;            // as registered; what is particular, or empty
  std::function<Tensors()> inputs;  // those that are floating get gradients
  std::function<Tensor(const Tensors&)> function;
  double flops = 0;  // of products, forward
  double backward_flops = 2 * flops;
  bool both = false;  // forward and backward are timed as one: the forward makes the gradient already
};
// Of the ops whose sizes a sample of their registration does not tell.
std::vector<OpCall> op_calls(int64_t rows);

}  // namespace tandem::command
