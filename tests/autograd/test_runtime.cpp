// What the engine stands on: the allocator and the thread pool.
#include <atomic>
#include <chrono>
#include <concepts>
#include <thread>
#include <type_traits>

#include "autograd/device.h"
#include "autograd/engine.h"
#include "autograd/parallel.h"
#include "autograd/scope.h"
#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

MemoryStats stats() { return backend(kCpu).stats(); }

}  // namespace

// A scope refers to its path, so none is made of what ends before it.
static_assert(!std::is_constructible_v<Scope, const char*> && !std::is_constructible_v<Scope, std::string>);
static_assert(std::is_constructible_v<Scope, const std::string&>);

TEST_CASE("a loop that repeats itself asks the system for memory in its first round only") {
  auto step = [] {
    const Tensor x = ones({100, 50}, {DType::f32, kCpu, true});
    ((x * x + 1.0) * x).mean().backward();
  };
  step();
  const MemoryStats before = stats();
  for (int i = 0; i < 20; ++i) step();
  CHECK(stats().system_calls == before.system_calls);
  CHECK(stats().in_use == before.in_use);
}

TEST_CASE("the allocator counts what is in use, its peak and what it keeps") {
  Backend& cpu = backend(kCpu);
  cpu.release_cached();
  cpu.reset_peak();
  const MemoryStats before = stats();
  CHECK(before.cached == 0);
  CHECK(before.peak == before.in_use);
  const int64_t bytes = 3 << 20;
  void *a = cpu.allocate(bytes), *b = cpu.allocate(bytes);
  CHECK(reinterpret_cast<uintptr_t>(a) % 64 == 0);
  CHECK(stats().in_use == before.in_use + 2 * bytes);
  cpu.release(a, bytes);
  CHECK(stats().in_use == before.in_use + bytes);
  CHECK(stats().cached == bytes);
  CHECK(stats().peak == before.in_use + 2 * bytes);
  CHECK(stats().system_calls == before.system_calls + 2);
  CHECK(cpu.allocate(bytes) == a);  // the block that was freed
  CHECK(stats().cached == 0);
  CHECK(stats().system_calls == before.system_calls + 2);
  cpu.release(a, bytes), cpu.release(b, bytes);
  CHECK(stats().cached == 2 * bytes);
  cpu.release_cached();
  CHECK(stats().cached == 0);
  CHECK(stats().in_use == before.in_use);
}

TEST_CASE("blocks of all sizes are aligned, disjoint and at most an eighth too large") {
  Backend& cpu = backend(kCpu);
  std::vector<std::pair<char*, int64_t>> blocks;
  for (int64_t bytes = 0; bytes < 200'000; bytes = bytes + 1 + bytes / 7) {
    const int64_t before = stats().in_use;
    char* data = static_cast<char*>(cpu.allocate(bytes));
    const int64_t taken = stats().in_use - before;
    CHECK(reinterpret_cast<uintptr_t>(data) % 64 == 0);
    CHECK(taken >= bytes);
    if (bytes > 512) CHECK(taken <= bytes + bytes / 8 + 1);
    std::memset(data, static_cast<int>(blocks.size() % 251), bytes);
    blocks.emplace_back(data, bytes);
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    bool intact = true;
    for (int64_t k = 0; k < blocks[i].second; ++k)
      intact &= blocks[i].first[k] == static_cast<char>(static_cast<unsigned char>(i % 251));
    CHECK(intact);
  }
  for (auto [data, bytes] : blocks) cpu.release(data, bytes);
}

TEST_CASE("more memory than there is: a DeviceError, and everything goes on") {
  const MemoryStats before = stats();
  for (const int power : {60, 62, 47}) {
    check_throws<DeviceError>("cpu: out of memory: asked for ",
                              [&] { backend(kCpu).allocate((int64_t{1} << power) + 1); });
  }
  CHECK(stats().in_use == before.in_use);
  CHECK(stats().peak == before.peak);
  CHECK(stats().system_calls == before.system_calls);
  CHECK(ones({4}).sum().item() == 4);
}

TEST_CASE("new memory can be filled, so that reads of it show") {
  set_allocation_fill(0x7f);
  const Tensor x = empty({1000}, {DType::u8});
  set_allocation_fill(-1);
  CHECK(x.to_vector<int32_t>() == std::vector<int32_t>(1000, 0x7f));
}

TEST_CASE("threads may allocate, record and run backward at once, each its own graph") {
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&wrong, t] {
      for (int i = 0; i < 200; ++i) {
        const Tensor x = full({1 + i}, t + 1, {DType::f64, kCpu, true});
        (x * x).sum().backward();
        for (double g : x.grad().to_vector<double>()) wrong += g != 2 * (t + 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("parallel_for covers the range once, in chunks that do not depend on the threads") {
  const int before = num_threads();
  for (const int n : {1, 2, 5}) {
    set_num_threads(n);
    CHECK(num_threads() == n);
    std::vector<int> hits(1003);
    std::atomic<int> wrong = 0, chunks = 0;
    parallel_for(1003, 10, [&](int64_t begin, int64_t end) {
      wrong += begin % 10 != 0 || end != std::min<int64_t>(1003, begin + 10);
      ++chunks;
      for (int64_t i = begin; i < end; ++i) ++hits[i];
    });
    CHECK(wrong == 0);
    CHECK(chunks == 101);
    CHECK(hits == std::vector<int>(1003, 1));
  }
  set_num_threads(before);
  parallel_for(0, 10, [](int64_t, int64_t) { FAIL("called for nothing"); });
  check_throws<ConfigError>("threads: expected a number >= 1, got 0", [] { set_num_threads(0); });
}

TEST_CASE("exceptions of any thread come out of parallel_for, with the module's name") {
  const int before = num_threads();
  const std::string path = "decoder.embed";
  Scope scope(path);
  for (const int n : {1, 3}) {
    set_num_threads(n);
    for (const int64_t bad : {0, 57, 99}) {
      check_throws<ValueError>("bad " + std::to_string(bad) + "; in decoder.embed", [&] {
        parallel_for(100, 1, [&](int64_t i, int64_t) { check<ValueError>(i != bad, "bad {}", i); });
      });
    }
  }
  set_num_threads(before);
}

TEST_CASE("nested parallel_for") {
  const int before = num_threads();
  for (const int n : {1, 4}) {
    set_num_threads(n);
    std::vector<int> hits(64 * 64);
    parallel_for(64, 1, [&](int64_t row, int64_t) {
      parallel_for(64, 8, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++hits[row * 64 + i];
      });
    });
    CHECK(hits == std::vector<int>(64 * 64, 1));
    check_throws<ShapeError>("inner", [] {
      parallel_for(4, 1, [](int64_t, int64_t) {
        parallel_for(4, 1, [](int64_t, int64_t) { raise<ShapeError>("inner"); });
      });
    });
  }
  set_num_threads(before);
}

TEST_CASE("every error is an Error and a std::runtime_error") {
  auto is_error = []<class E>(const E& error) {
    static_assert(std::derived_from<E, Error> && std::derived_from<E, std::runtime_error>);
    return std::string(error.what()) == "text";
  };
  CHECK(is_error(ShapeError("text")));
  CHECK(is_error(DTypeError("text")));
  CHECK(is_error(DeviceError("text")));
  CHECK(is_error(ValueError("text")));
  CHECK(is_error(AutogradError("text")));
  CHECK(is_error(IoError("text")));
  CHECK(is_error(ConfigError("text")));
}

TEST_CASE("a mark says how long the work since an earlier one took") {
  const auto start = backend(kCpu).mark();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const auto middle = backend(kCpu).mark(), end = backend(kCpu).mark();
  CHECK(middle->seconds_since(*start) >= 0.005);
  CHECK(end->seconds_since(*start) >= middle->seconds_since(*start));
}

TEST_CASE("devices have names; a device without a backend is a DeviceError") {
  CHECK(name_of(parse_device("cpu")) == "cpu");
  CHECK(name_of(parse_device("cuda")) == "cuda");
  check_throws<ConfigError>("device: expected cpu or cuda, got 'tpu'", [] { parse_device("tpu"); });
}
