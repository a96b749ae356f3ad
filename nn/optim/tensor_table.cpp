#include "nn/optim/tensor_table.h"

#include <algorithm>
#include <cstring>

namespace tandem::nn {

TensorRows TensorTable::rows(std::vector<TensorRow> rows, Device device) {
  int64_t chunks = 0;
  for (TensorRow& row : rows) {
    row.first_chunk = chunks;
    chunks += (row.numel + kTensorChunk - 1) / kTensorChunk;
    row.aligned = true;
    for (const void* p : {row.parameter, row.gradient, row.state[0], row.state[1]})
      row.aligned = row.aligned && reinterpret_cast<uintptr_t>(p) % 16 == 0;
  }
  if (recorded_scalars()) return recorded_.emplace_back(make(rows, chunks, device)).rows;
  if (!copy_.memory.defined() || copy_.memory.device() != device || rows != last_) {
    copy_ = make(rows, chunks, device);
    last_ = std::move(rows);
  }
  return copy_.rows;
}

TensorTable::Copy TensorTable::make(const std::vector<TensorRow>& rows, int64_t chunks, Device device) {
  const auto table = static_cast<int64_t>(rows.size() * sizeof(TensorRow));
  std::vector<char> bytes(table + chunks * static_cast<int64_t>(sizeof(int32_t)));
  if (table > 0) std::memcpy(bytes.data(), rows.data(), table);
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t end = i + 1 < rows.size() ? rows[i + 1].first_chunk : chunks;
    const auto index = static_cast<int32_t>(i);
    for (int64_t c = rows[i].first_chunk; c < end; ++c)
      std::memcpy(bytes.data() + table + c * static_cast<int64_t>(sizeof index), &index, sizeof index);
  }
  Copy copy;
  copy.memory = empty({std::max<int64_t>(1, std::ssize(bytes))}, {DType::u8, device});
  auto* memory = static_cast<char*>(copy.memory.device_raw());
  if (!bytes.empty()) backend(device).copy_from_host(memory, bytes.data(), std::ssize(bytes));
  copy.rows = {reinterpret_cast<const TensorRow*>(memory), reinterpret_cast<const int32_t*>(memory + table),
               chunks};
  return copy;
}

}  // namespace tandem::nn
