// Which work of streams is ordered before which: by its stream, events, the legacy stream, or the host's
// waiting. Memory that two streams use without such an order is reported, whatever the order in which they
// happened to run.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "memory/device_memory.h"

namespace cudasim {

// By stream, the number of the last work that is known to be over.
using Clock = std::vector<uint64_t>;
void merge(Clock& clock, const Clock& other);
// What the host has waited for; whatever it submits comes after it.
Clock& host_clock();

// Epochs number launches, blocks and their barriers, and other work, in the order in which they run.
uint32_t take_epoch();

// Work of a stream begins to run. `before` is what it comes after.
void begin_work(size_t stream, uint64_t number, const Clock& before);
// What it is, for reports.
void name_work(const std::string& name);
// Accesses of epochs before this one are ordered before the work that runs now.
uint32_t concurrent_from();
// Names the work that an epoch belongs to if it is not ordered before the one that runs now; else nullptr.
const std::string* unordered_work(uint32_t epoch);

// Checks and notes an access by a copy or a library, of bytes inside of the region.
void note_access(Region& region, size_t at, size_t bytes, bool write, const char* who);

}  // namespace cudasim
