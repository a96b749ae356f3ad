// What is known about memory beside its bytes: which are initialised, and who last read and wrote them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace cudasim {

// Memory of zeroes that costs nothing until it is touched.
class ZeroedMemory {
 public:
  ZeroedMemory() = default;
  ~ZeroedMemory() { release(); }
  ZeroedMemory(ZeroedMemory&& other) noexcept { swap(other); }
  ZeroedMemory& operator=(ZeroedMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  void allocate(size_t bytes);
  void release();
  void swap(ZeroedMemory& other) noexcept;
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// The last accesses to one granule. Epochs count barriers: all threads of a block share one, every block and
// launch starts a new one, so an epoch says which block ran. Clocks count a lane's __syncwarp within an
// epoch.
struct Cell {
  uint32_t write_epoch, read_epoch;
  uint16_t writer, reader;  // thread in its block, and flags
  uint16_t write_clock, read_clock;

  static constexpr uint16_t thread_mask = 1023;
  static constexpr uint16_t atomic_write = 1024;
  static constexpr uint16_t many_lanes = 1024;    // reader: others of its warp read as well, at this clock
  static constexpr uint16_t many_warps = 2048;    // others of its block in this epoch
  static constexpr uint16_t many_blocks = 4096;   // others of its launch
  static constexpr uint16_t other_stream = 8192;  // before its launch, work that is not ordered with it
};

class Shadow {
 public:
  // Nothing is initialised.
  void create(size_t bytes, bool cells);
  void release();
  bool exists() const { return size_ != 0; }

  bool initialised(size_t at, size_t bytes) const;
  // First byte in the range that is not; at + bytes if there is none.
  size_t first_uninitialised(size_t at, size_t bytes) const;
  bool none_initialised(size_t at, size_t bytes) const;
  void mark(size_t at, size_t bytes, bool initialised);

  // The cells of an access, which is aligned to its size; they become finer when an access needs it.
  Cell* cells(size_t at, size_t bytes, size_t& count) {
    const size_t granule = size_t{1} << shift_;
    if (bytes < granule || (at & (granule - 1)) != 0) [[unlikely]]
      refine(bytes);
    count = bytes >> shift_;
    return reinterpret_cast<Cell*>(cells_.data()) + (at >> shift_);
  }
  // Those of any range of bytes.
  Cell* cells_covering(size_t at, size_t bytes, size_t& count) {
    const size_t granule = size_t{1} << shift_;
    if (((at | bytes) & (granule - 1)) != 0) refine(at % 2 == 0 && bytes % 2 == 0 ? 2 : 1);
    count = bytes >> shift_;
    return reinterpret_cast<Cell*>(cells_.data()) + (at >> shift_);
  }
  bool has_cells() const { return cells_.data() != nullptr; }
  size_t cell_bytes() const { return size_t{1} << shift_; }

 private:
  void refine(size_t bytes);

  size_t size_ = 0;
  int shift_ = 2;
  ZeroedMemory bits_;  // one per byte
  ZeroedMemory cells_;
};

inline bool Shadow::initialised(size_t at, size_t bytes) const {
  const auto* bits = reinterpret_cast<const uint8_t*>(bits_.data());
  if ((at & 7) + bytes <= 8) {
    const auto mask = static_cast<unsigned>(((1u << bytes) - 1) << (at & 7));
    return (bits[at >> 3] & mask) == mask;
  }
  return first_uninitialised(at, bytes) == at + bytes;
}

inline bool Shadow::none_initialised(size_t at, size_t bytes) const {
  const auto* bits = reinterpret_cast<const uint8_t*>(bits_.data());
  for (const size_t end = at + bytes; at < end; ++at)
    if ((bits[at >> 3] >> (at & 7) & 1) != 0) return false;
  return true;
}

}  // namespace cudasim
