#include "runtime/stream_order.h"

#include <algorithm>
#include <set>

#include "runtime/options.h"
#include "sim.h"

namespace cudasim {
namespace {

struct Executed {
  uint64_t number;
  uint32_t first_epoch;
  const std::string* name;
};

struct History {
  uint32_t epochs = 0;
  Clock host;
  std::vector<std::vector<Executed>> executed;  // by stream
  std::set<std::string> names;
  size_t streams_used = 0;

  size_t stream = 0;
  Clock before;
  uint32_t epoch = 0, concurrent = 0;
};

History& history() {
  static auto& instance = *new History;
  return instance;
}

constexpr size_t remembered =
    100'000;  // work of a stream that is remembered; what is older counts as ordered

uint64_t known(const Clock& clock, size_t stream) { return stream < clock.size() ? clock[stream] : 0; }

}  // namespace

void merge(Clock& clock, const Clock& other) {
  if (clock.size() < other.size()) clock.resize(other.size());
  for (size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

Clock& host_clock() { return history().host; }

uint32_t take_epoch() { return ++history().epochs; }

void begin_work(size_t stream, uint64_t number, const Clock& before) {
  History& h = history();
  if (h.executed.size() <= stream) h.executed.resize(stream + 1);
  h.stream = stream;
  h.before = before;
  h.epoch = take_epoch();
  h.concurrent = h.epoch;
  for (size_t other = 0; other < h.executed.size(); ++other) {
    if (other == stream) continue;
    const auto& work = h.executed[other];
    const auto first = std::upper_bound(work.begin(), work.end(), known(before, other),
                                        [](uint64_t n, const Executed& e) { return n < e.number; });
    if (first != work.end()) h.concurrent = std::min(h.concurrent, first->first_epoch);
  }
  auto& own = h.executed[stream];
  if (own.empty()) ++h.streams_used;
  if (own.size() == 2 * remembered) own.erase(own.begin(), own.begin() + remembered);
  own.push_back({number, h.epoch, nullptr});
}

void name_work(const std::string& name) {
  History& h = history();
  h.executed[h.stream].back().name = &*h.names.insert(name).first;
}

uint32_t concurrent_from() { return history().concurrent; }

const std::string* unordered_work(uint32_t epoch) {
  static const std::string unnamed = "other work";
  const History& h = history();
  const Executed* owner = nullptr;
  size_t owner_stream = 0;
  for (size_t stream = 0; stream < h.executed.size(); ++stream) {
    const auto& work = h.executed[stream];
    const auto next = std::upper_bound(work.begin(), work.end(), epoch,
                                       [](uint32_t e, const Executed& x) { return e < x.first_epoch; });
    if (next == work.begin()) continue;
    const Executed& candidate = *std::prev(next);
    if (owner != nullptr && candidate.first_epoch < owner->first_epoch) continue;
    owner = &candidate;
    owner_stream = stream;
  }
  if (owner == nullptr || owner_stream == h.stream || owner->number <= known(h.before, owner_stream))
    return nullptr;
  return owner->name == nullptr ? &unnamed : owner->name;
}

void note_access(Region& region, size_t at, size_t bytes, bool write, const char* who) {
  History& h = history();
  if (!options().check || !region.shadow.has_cells() || h.streams_used < 2 || bytes == 0) return;
  size_t count;
  Cell* cell = region.shadow.cells_covering(at, bytes, count);
  uint32_t ordered_epoch = 0;  // the last that was looked up
  const auto conflict = [&](uint32_t epoch, const char* what) {
    if (epoch < h.concurrent || epoch >= h.epoch || epoch == ordered_epoch) return false;
    const std::string* other = unordered_work(epoch);
    if (other == nullptr) {
      ordered_epoch = epoch;
      return false;
    }
    report("race between streams", std::string(who) + " " + what + " " + describe(region) +
                                       ", not ordered with " + *other +
                                       ": no event, and no waiting of the host, is between them");
    return true;
  };
  bool reported = false;
  for (size_t i = 0; i < count; ++i, ++cell) {
    if (!reported) {
      reported =
          conflict(cell->write_epoch, write ? "writes what was written in" : "reads what was written in") ||
          (write && conflict(cell->read_epoch, "writes what was read in"));
    }
    if (write) {
      cell->write_epoch = h.epoch;
      cell->writer = 0;
      cell->write_clock = 0;
    } else {
      cell->read_epoch = h.epoch;
      cell->reader = 0;
      cell->read_clock = 0;
    }
  }
}

}  // namespace cudasim
