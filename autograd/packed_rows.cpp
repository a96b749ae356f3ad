#include "autograd/packed_rows.h"

#include <algorithm>
#include <utility>

#include "autograd/error.h"
#include "autograd/thread_scope.h"

namespace tandem {
namespace {

thread_local PackedScope* innermost = nullptr;
const PackedRows not_packed;

}  // namespace

PackedRows::PackedRows(const std::vector<Range>& ranges, int64_t positions) {
  Table table{.samples = {}, .positions = positions};
  table.samples.reserve(ranges.size());
  for (const auto& [begin, end] : ranges) {
    check<ValueError>(begin >= 0 && begin <= end && end <= positions,
                      "packed rows: positions [{}, {}) of sample {}, expected a range in [0, {}]", begin, end,
                      table.samples.size(), positions);
    table.samples.push_back({table.rows, end - begin, begin});
    table.rows += end - begin;
    table.longest = std::max(table.longest, end - begin);
  }
  table_ = std::make_shared<const Table>(std::move(table));
}

PackedScope::PackedScope(PackedRows rows, PackedRows memory)
    : rows_(std::move(rows)), memory_(std::move(memory)), outer_(innermost) {
  innermost = this;
}

PackedScope::~PackedScope() { close_scope(innermost, this, &PackedScope::outer_, "PackedScope"); }

const PackedRows& PackedScope::rows() { return innermost ? innermost->rows_ : not_packed; }
const PackedRows& PackedScope::memory() { return innermost ? innermost->memory_ : not_packed; }

}  // namespace tandem
