// PackedRows: a batch of sequences without its padding. In place of [samples, positions, ...] a packed tensor
// is [rows, ...]: of each sample the rows of one range of positions, one sample behind the other. Layers that
// work row by row need not know of it; attention and noise do, so that padding is neither computed nor drawn
// for, and the same rows get the same noise as with it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace tandem {

// Which sample and position each row of a packed tensor is. A handle, as a Tensor is.
class PackedRows {
 public:
  // The rows of one sample: `rows` of them from first_row on, the first of which is at `position`.
  struct Sample {
    int64_t first_row, rows, position;
  };
  // Positions [begin, end) of one sample.
  struct Range {
    int64_t begin, end;
  };

  PackedRows() = default;  // undefined: of tensors that are not packed
  // Of a batch [ranges, positions]. ValueError for a range that is not in [0, positions].
  PackedRows(const std::vector<Range>& ranges, int64_t positions);

  bool defined() const { return table_ != nullptr; }  // whether tensors are packed
  // Of defined ones: how many samples, positions of each with its padding, rows of all, rows of the longest.
  int64_t samples() const { return static_cast<int64_t>(table_->samples.size()); }
  int64_t positions() const { return table_->positions; }
  int64_t rows() const { return table_->rows; }
  int64_t longest() const { return table_->longest; }
  const Sample& operator[](int64_t sample) const { return table_->samples[sample]; }  // unchecked

 private:
  struct Table {
    std::vector<Sample> samples;
    int64_t positions = 0, rows = 0, longest = 0;
  };
  std::shared_ptr<const Table> table_;
};

// While it lives, what this thread runs takes and gives packed tensors: dropout and its like [rows, ...],
// nn::MultiheadAttention [rows, dim] and, as its memory, [memory rows, dim]. With undefined rows they are not
// packed, as outside of every scope. It closes on the thread that opened it. Example:
//
//   const PackedRows rows({{0, 3}, {0, 1}}, 3);  // two texts, of three words and of one
//   const PackedScope packed(rows);
//   const PassContext passes({.count = 2});
//   Tensor noisy = dropout(ones({4, 8}), 0.5);  // the noise of [2, 3, 8], without the padding's
class PackedScope {
 public:
  // memory: of what a query attends to beside, such as an encoder's output; undefined: of nothing.
  [[nodiscard("it acts while it lives: give it a name")]] explicit PackedScope(PackedRows rows,
                                                                               PackedRows memory = {});
  ~PackedScope();
  PackedScope(const PackedScope&) = delete;
  PackedScope& operator=(const PackedScope&) = delete;

  // Those of the innermost scope; undefined outside of every one.
  static const PackedRows& rows();
  static const PackedRows& memory();

 private:
  PackedRows rows_, memory_;
  PackedScope* outer_;
};

}  // namespace tandem
