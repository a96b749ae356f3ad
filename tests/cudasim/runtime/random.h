// Random choices of the simulation: small, quick to seed, the same everywhere.
#pragma once
#include <cstdint>
#include <limits>

namespace cudasim {

class Random {
 public:
  using result_type = uint32_t;
  static constexpr uint32_t min() { return 0; }
  static constexpr uint32_t max() { return std::numeric_limits<uint32_t>::max(); }
  void seed(uint64_t value) { state_ = value; }
  uint32_t operator()() {  // SplitMix64
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>((z ^ z >> 31) >> 32);
  }

 private:
  uint64_t state_ = 0;
};

}  // namespace cudasim
