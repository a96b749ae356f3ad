#include "models/transformer/padding.h"

#include <algorithm>

#include "ops/packing.h"

namespace tandem::models {
namespace {

constexpr int64_t kLeastPadding = 20;  // one position of so many: with less, packing costs what it saves

PackedRows rows_of(const Wanted& wanted) {
  const Tensor& mask = wanted.positions;
  const int64_t samples = mask.size(0), positions = mask.size(1);
  const std::vector<uint8_t> all = mask.to_vector<uint8_t>();
  std::vector<PackedRows::Range> ranges;
  for (int64_t i = 0; i < samples; ++i) {
    const auto begin = all.begin() + i * positions, end = begin + positions;
    const auto first = std::find(begin, end, 1);
    const auto last = std::find(std::reverse_iterator(end), std::reverse_iterator(begin), 1).base();
    if (first == end) {
      ranges.push_back({0, 0});
    } else {
      ranges.push_back({wanted.from_start ? 0 : first - begin, last - begin});
    }
  }
  return {ranges, positions};
}

}  // namespace

std::vector<PackedRows> without_padding(const std::vector<Wanted>& batches) {
  std::vector<PackedRows> all(batches.size());
  const auto on_cpu = [](const Wanted& batch) { return batch.positions.device() == kCpu; };
  if (!std::all_of(batches.begin(), batches.end(), on_cpu)) return all;
  int64_t positions = 0, rows = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    all[i] = rows_of(batches[i]);
    positions += all[i].samples() * all[i].positions(), rows += all[i].rows();
  }
  const int64_t padding = positions - rows;
  if (padding == 0 || padding * kLeastPadding < positions) all.assign(all.size(), {});
  return all;
}

Tensor packed(const Tensor& x, const PackedRows& rows) { return rows.defined() ? pack_padded(x, rows) : x; }
Tensor padded(const Tensor& x, const PackedRows& rows) { return rows.defined() ? pad_packed(x, rows) : x; }

Tensor padding_within(const Tensor& padding, const PackedRows& rows) {
  if (!rows.defined()) return padding;
  const Tensor inside = pack_padded(padding, rows);
  const std::vector<uint8_t> all = inside.to_vector<uint8_t>();
  return std::find(all.begin(), all.end(), 1) == all.end() ? Tensor() : inside;
}

Tensor positions_of(const PackedRows& rows) {
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < rows.samples(); ++i)
    for (int64_t r = 0; r < rows[i].rows; ++r) positions.push_back(rows[i].position + r);
  return from_values(positions, {rows.rows()});
}

}  // namespace tandem::models
