// Every mistake of kernels/bad.cu is found, and named for what it is, in forward, reverse and random order.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>

#include "in_orders.h"
#include "kernels/bad.h"
#include "memory/pool_blocks.h"
#include "test_util.h"

namespace {

DeviceArray<float> ones(size_t count) { return DeviceArray<float>(std::vector<float>(count, 1.0f)); }

}  // namespace

TEST_CASE("seeded bugs: barriers") {
  const auto x = ones(64);
  const DeviceArray<float> y(64);
  SUBCASE("missing between write and read") {
    finds(
        "race", [&] { bad::missing_barrier(x.data(), y.data()); }, "bad.cu:");
  }
  SUBCASE("missing before memory is used again") {
    finds("race", [&] { bad::missing_barrier_before_reuse(x.data(), y.data()); });
  }
  SUBCASE("different ones for different threads") {
    finds("divergent barrier", [&] { bad::divergent_barrier(y.data()); });
  }
  SUBCASE("some threads have exited") {
    finds(
        "divergent barrier", [&] { bad::barrier_after_exit(40, y.data()); }, "24 threads");
  }
  SUBCASE("one warp alone") {
    finds("divergent barrier", [&] { bad::barrier_of_one_warp(y.data()); });
  }
}

TEST_CASE("seeded bugs: warp collectives") {
  const auto x = ones(32);
  const DeviceArray<float> y(32);
  SUBCASE("lanes of the mask do not come") {
    finds("warp collective", [&] { bad::shuffle_without_some(x.data(), y.data()); });
  }
  SUBCASE("reads from a lane outside of the mask") {
    finds(
        "warp collective", [&] { bad::shuffle_from_outside(x.data(), y.data()); }, "does not take part");
  }
  SUBCASE("lanes that are not in the mask") {
    finds(
        "warp collective", [&] { bad::shuffle_by_strangers(x.data(), y.data()); }, "not in the mask");
  }
  SUBCASE("masks that do not agree") {
    finds(
        "warp collective", [&] { bad::vote_never_completed(y.data()); }, "deadlock");
  }
}

TEST_CASE("seeded bugs: bounds") {
  const auto x = ones(100);
  const DeviceArray<float> y(100), out(300);
  SUBCASE("read behind the end") {
    finds(
        "out of bounds", [&] { bad::read_behind(100, x.data(), y.data()); }, "0 bytes behind");
  }
  SUBCASE("write behind the end") {
    finds("out of bounds", [&] { bad::write_behind(100, x.data(), y.data()); });
  }
  SUBCASE("write before the beginning") {
    finds("out of bounds", [&] { bad::write_before(y.data()); });
  }
  SUBCASE("far away from every allocation") {
    finds("out of bounds", [&] { bad::read_behind(8, x.data() + (1 << 28), y.data()); });
  }
  SUBCASE("shared array into its neighbour") {
    finds(
        "out of bounds", [&] { bad::shared_overrun(y.data()); }, "shared array");
  }
  SUBCASE("dynamic shared memory too small") {
    finds(
        "out of bounds", [&] { bad::dynamic_shared_too_small(y.data(), 60 * 4); }, "dynamic shared memory");
  }
  SUBCASE("local array") {
    const DeviceArray<int> index(std::vector<int>{9000});
    finds(
        "out of bounds", [&] { bad::local_overrun(index.data(), x.data()); }, "local memory");
  }
  SUBCASE("null pointer") {
    finds("null pointer", [&] { bad::read_behind(8, nullptr, y.data()); });
  }
  SUBCASE("host pointer") {
    const std::vector<float> host(16, 1.0f);
    finds("host pointer", [&] { bad::read_behind(8, host.data(), y.data()); });
  }
  SUBCASE("write to constant memory") {
    finds(
        "out of bounds", [&] { bad::write_constant(bad::constant_address()); }, "constant");
  }
}

TEST_CASE("seeded bugs: alignment") {
  const auto x = ones(33);
  const DeviceArray<float> y(32);
  finds(
      "misaligned", [&] { bad::misaligned_vector(x.data(), y.data()); }, "read of 16 bytes");
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("seeded bugs: uninitialised memory") {
  const DeviceArray<float> y(64);
  SUBCASE("global") {
    finds(
        "uninitialised read",
        [&] {
          const DeviceArray<float> x(64);
          CHECK(cudaMemset(x.data(), 0, 63 * sizeof(float)) == cudaSuccess);
          bad::read_all(64, x.data(), y.data());
        },
        "allocation");
  }
  SUBCASE("one byte of a value") {
    finds(
        "uninitialised read",
        [&] {
          const DeviceArray<float> x(64);
          CHECK(cudaMemset(x.data(), 0, 64 * sizeof(float) - 1) == cudaSuccess);
          bad::read_all(64, x.data(), y.data());
        },
        "byte 255");
  }
  SUBCASE("shared") {
    finds(
        "uninitialised read", [&] { bad::uninitialised_shared(y.data()); }, "shared array");
  }
  SUBCASE("copied along with what is initialised") {
    finds(
        "uninitialised read",
        [&] {
          const DeviceArray<float> from(64), to(64);
          CHECK(cudaMemset(from.data(), 0, 32 * sizeof(float)) == cudaSuccess);
          CHECK(cudaMemcpy(to.data(), from.data(), 64 * sizeof(float), cudaMemcpyDeviceToDevice) ==
                cudaSuccess);
          bad::read_all(64, to.data(), y.data());
        },
        "was never written");
  }
  SUBCASE("copied to the host") {
    finds(
        "uninitialised read",
        [&] {
          const DeviceArray<float> x(4);
          float host[4];
          CHECK(cudaMemcpy(host, x.data(), sizeof host, cudaMemcpyDeviceToHost) != cudaSuccess);
        },
        "copy to the host");
  }
}

TEST_CASE("seeded bugs: races") {
  const auto x = ones(128);
  const DeviceArray<float> y(64);
  SUBCASE("all blocks write one value") {
    finds(
        "race", [&] { bad::write_by_all_blocks(y.data()); }, "write after write");
  }
  SUBCASE("+= for an atomic") {
    finds("race", [&] { bad::add_without_atomic(x.data()); });
  }
  SUBCASE("a plain write beside atomics") {
    const DeviceArray<int> count(1);
    // Forward, the write comes after atomics, which read what is not there yet.
    finds("race", [&] { bad::atomic_beside_write(count.data()); });
  }
  SUBCASE("a sum by atomics is read before all have added") {
    const DeviceArray<int> values(std::vector<int>(128, 1)), sums(128);
    finds(
        "race", [&] { bad::sum_read_too_early(128, values.data(), sums.data()); },
        "atomic operations of other threads");
  }
  SUBCASE("missing __syncwarp") {
    finds(
        "race", [&] { bad::missing_syncwarp(x.data(), y.data()); }, "and warp");
  }
  SUBCASE("a block reads what another writes") {
    finds(
        "race",
        [&] {
          const auto values = ones(8);
          bad::read_of_other_block(values.data());
        },
        "of block");
  }
  SUBCASE("last block without a fence") {
    finds(
        "race",
        [&] {
          const DeviceArray<float> partial(4), out(1);
          const DeviceArray<unsigned> counter(std::vector<unsigned>{0});
          bad::last_block_without_fence(x.data(), partial.data(), counter.data(), out.data());
        },
        "of block");
  }
}

TEST_CASE("seeded bugs: lifetimes") {
  const DeviceArray<float> y(64);
  SUBCASE("use after free") {
    finds(
        "use after free",
        [&] {
          void* x = nullptr;
          CHECK(cudaMalloc(&x, 256) == cudaSuccess);
          CHECK(cudaFree(x) == cudaSuccess);
          bad::read_all(64, static_cast<const float*>(x), y.data());
        },
        "of freed allocation");
  }
  SUBCASE("double free") {
    finds("double free", [&] {
      void* x = nullptr;
      CHECK(cudaMalloc(&x, 256) == cudaSuccess);
      CHECK(cudaFree(x) == cudaSuccess);
      CHECK(cudaFree(x) == cudaErrorInvalidValue);
    });
  }
  SUBCASE("free of an address inside of an allocation") {
    finds("invalid free", [&] { CHECK(cudaFree(y.data() + 1) == cudaErrorInvalidValue); });
  }
  SUBCASE("leak") {
    const size_t before = cudasim::live_allocations().size();
    void* x = nullptr;
    CHECK(cudaMalloc(&x, 12345) == cudaSuccess);
    const std::vector<std::string> live = cudasim::live_allocations();
    CHECK(live.size() == before + 1);
    CHECK(std::any_of(live.begin(), live.end(),
                      [](const std::string& s) { return s.find("12345 bytes") != std::string::npos; }));
    CHECK(cudaFree(x) == cudaSuccess);
    CHECK(cudasim::live_allocations().size() == before);
  }
}

TEST_CASE("seeded bugs: blocks of an allocator that keeps memory") {
  const DeviceArray<float> block(128), y(64);
  const auto acquire = [&](size_t count) {
    tandem_block_acquired(block.data(), count * sizeof(float), nullptr);
  };
  const auto release = [&] { tandem_block_released(block.data(), nullptr); };
  SUBCASE("access behind what is in use") {
    finds(
        "out of bounds",
        [&] {
          acquire(60);
          require(cudaMemset(block.data(), 0, 60 * sizeof(float)));
          bad::read_all(61, block.data(), y.data());
        },
        "of 240 bytes");
  }
  SUBCASE("use while it is free") {
    finds(
        "use after free",
        [&] {
          acquire(60);
          release();
          bad::read_all(60, block.data(), y.data());
        },
        "in no use");
  }
  SUBCASE("values of the last use") {
    finds("uninitialised read", [&] {
      acquire(64);
      require(cudaMemset(block.data(), 0, 64 * sizeof(float)));
      release();
      acquire(64);
      bad::read_all(64, block.data(), y.data());
    });
  }
  SUBCASE("a library writes behind the end") {
    finds(
        "out of bounds",
        [&] {
          acquire(60);
          cudasim::enqueue(nullptr, "library", [&] {
            static_cast<float*>(cudasim::check_write(block.data(), 240, "library"))[60] = 1;
          });
          release();
        },
        "found as it was released");
  }
  SUBCASE("released twice") {
    finds("double free", [&] {
      acquire(60);
      release();
      release();
    });
  }
  acquire(128);
}

TEST_CASE("seeded bugs: kernels that do not end") {
  const DeviceArray<int> flag(std::vector<int>{0, 0});
  const Restore restore;
  cudasim::options().budget = 20000;
  SUBCASE("endless loop") {
    finds("instruction budget", [&] { bad::endless(flag.data()); });
  }
  SUBCASE("recursion without an end") {
    const auto y = ones(48);
    finds("stack overflow", [&] { bad::endless_recursion(1, y.data()); });
  }
}

TEST_CASE("seeded bugs: a failed assertion names itself") {
  finds(
      "assertion", [] { bad::fails_assertion(30); }, "threadIdx.x) < n");
}
