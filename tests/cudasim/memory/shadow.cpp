#include "memory/shadow.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace cudasim {

void ZeroedMemory::allocate(size_t bytes) {
  release();
  if (bytes == 0) return;
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(memory);
  size_ = bytes;
}

void ZeroedMemory::release() {
  if (data_ != nullptr) munmap(data_, size_);
  data_ = nullptr;
  size_ = 0;
}

void ZeroedMemory::swap(ZeroedMemory& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
}

void Shadow::create(size_t bytes, bool cells) {
  size_ = bytes;
  shift_ = 2;
  bits_.allocate(bytes / 8 + 16);
  if (cells) {
    cells_.allocate(((bytes >> shift_) + 4) * sizeof(Cell));
  } else {
    cells_.release();
  }
}

void Shadow::release() {
  size_ = 0;
  bits_.release();
  cells_.release();
}

size_t Shadow::first_uninitialised(size_t at, size_t bytes) const {
  const auto* bits = reinterpret_cast<const uint8_t*>(bits_.data());
  const size_t end = at + bytes;
  while (at < end) {
    if ((at & 7) == 0 && end - at >= 64) {
      uint64_t word;
      std::memcpy(&word, bits + at / 8, 8);
      if (word == ~uint64_t{0}) {
        at += 64;
        continue;
      }
    }
    if ((at & 7) == 0 && end - at >= 8 && bits[at >> 3] == 255) {
      at += 8;
      continue;
    }
    if ((bits[at >> 3] >> (at & 7) & 1) == 0) return at;
    ++at;
  }
  return end;
}

void Shadow::mark(size_t at, size_t bytes, bool initialised) {
  if (bytes == 0) return;
  auto* bits = reinterpret_cast<uint8_t*>(bits_.data());
  const auto set = [&](size_t index, unsigned mask) {
    bits[index] = static_cast<uint8_t>(initialised ? bits[index] | mask : bits[index] & ~mask);
  };
  const size_t end = at + bytes, first = at >> 3, last = end >> 3;
  const unsigned head = 255u << (at & 7) & 255u, tail = (1u << (end & 7)) - 1;
  if (first == last) {
    set(first, head & tail);
    return;
  }
  set(first, head);
  std::memset(bits + first + 1, initialised ? 255 : 0, last - first - 1);
  if (tail != 0) set(last, tail);
}

void Shadow::refine(size_t bytes) {
  const int shift = bytes >= 4 ? 2 : bytes >= 2 ? 1 : 0;
  // An access of 4 bytes or more is aligned, so only its size can ask for finer cells.
  if (shift >= shift_) return;
  const int factor = 1 << (shift_ - shift);
  const size_t count = (size_ >> shift_) + 4;
  ZeroedMemory finer;
  finer.allocate(((size_ >> shift) + 16) * sizeof(Cell));
  const auto* from = reinterpret_cast<const Cell*>(cells_.data());
  auto* to = reinterpret_cast<Cell*>(finer.data());
  const size_t limit = finer.size() / sizeof(Cell);
  for (size_t i = 0; i < count; ++i) {
    if (from[i].write_epoch == 0 && from[i].read_epoch == 0) continue;
    for (size_t k = i * factor; k < std::min((i + 1) * factor, limit); ++k) to[k] = from[i];
  }
  cells_.swap(finer);
  shift_ = shift;
}

}  // namespace cudasim
