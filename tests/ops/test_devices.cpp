// What every op does on a device that it has no kernel for: a typed error, never an access to memory that is
// not the host's. The device here is a stand-in whose memory traps when the host touches it.
#include <doctest/doctest.h>
#include <sys/mman.h>

#include <cstring>
#include <map>

#include "autograd/pass_context.h"
#include "autograd/registry.h"
#include "ops/arithmetic_kernel.h"
#include "ops/inplace_kernel.h"
#include "ops/loops/loop.h"
#include "ops/ops.h"

namespace tandem {
namespace {

constexpr Device kOther{DeviceType::cuda};

class TrappingBackend final : public Backend {
 public:
  void* allocate(int64_t bytes) override {
    const size_t size = std::max<int64_t>(bytes, 1);
    void* data = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(data != MAP_FAILED);
    sizes_[data] = size;
    return data;
  }
  void release(void* data, int64_t) noexcept override {
    munmap(data, sizes_[data]);
    sizes_.erase(data);
  }
  void copy_to_host(void* host, const void* data, int64_t bytes) override {
    const Open open(*this);
    std::memcpy(host, data, bytes);
  }
  void copy_from_host(void* data, const void* host, int64_t bytes) override {
    const Open open(*this);
    std::memcpy(data, host, bytes);
  }
  MemoryStats stats() const override { return {.in_use = static_cast<int64_t>(sizes_.size())}; }
  void reset_peak() override {}
  void release_cached() override {}
  std::string description() const override { return "memory that traps"; }

  // While it lives the host may touch the memory: in copies and in kernels.
  struct Open {
    explicit Open(const TrappingBackend& backend) : backend(backend) { protect(PROT_READ | PROT_WRITE); }
    ~Open() { protect(PROT_NONE); }
    void protect(int access) const {
      for (const auto& [data, size] : backend.sizes_) mprotect(data, size, access);
    }
    const TrappingBackend& backend;
  };

 private:
  std::map<void*, size_t> sizes_;
};

TrappingBackend& other() {
  static TrappingBackend* backend = [] {
    auto* made = new TrappingBackend;  // kept for the life of the process
    register_backend(kOther.type, made);
    return made;
  }();
  return *backend;
}

// A kernel of the stand-in, on dense memory.
template <class F, class O, class... I> void dense_kernel(const detail::Map<F, O, I...>& map) {
  const TrappingBackend::Open open(other());
  [&]<size_t... K>(std::index_sequence<K...>) {
    for (int64_t i = 0; i < map.walk.numel; ++i)
      map.out[i] = map.f(static_cast<compute_t<I>>(static_cast<const I*>(map.in[K])[i])...);
  }
  (std::index_sequence_for<I...>{});
}

}  // namespace

TEST_CASE("devices: tensors move to another device and back, passes included") {
  other();
  const int64_t before = other().stats().in_use;
  {
    const Tensor x = tensor({1, 2, 3, 4, 5, 6}, {2, 3});
    const Tensor there = x.to(kOther);
    CHECK(there.device() == kOther);
    CHECK(there.to_vector<float>() == x.to_vector<float>());
    CHECK(there.to(kCpu).to_vector<float>() == x.to_vector<float>());
    const Tensor passes = stack_passes({x, x * 2.0}).to(kOther);
    CHECK(passes.passes() == 2);
    CHECK(passes.to(kCpu).pass(1).to_vector<float>() == (x * 2.0).to_vector<float>());
    CHECK_THROWS_WITH_AS(
        there.data<float>(),
        "data: the tensor's memory is on cuda, expected cpu; to_vector() and to(kCpu) copy it", DeviceError);
    CHECK_THROWS_WITH_AS(
        there + x,
        fmt::format("add: inputs on different devices: {0} on cuda and {0} on cpu; x.to(device) moves one",
                    describe(x))
            .c_str(),
        DeviceError);
  }
  CHECK(other().stats().in_use == before);
}

TEST_CASE("devices: an op without a kernel says so, and no op touches memory that is not the host's") {
  other();
  int refused = 0, moved = 0;
  for (const OpInfo& op : registered_ops()) {
    for (DType dtype : op.dtypes) {
      SampleMaker make(1, dtype, kCpu);
      for (const Sample& sample : op.samples(make)) {
        INFO(op.name, " ", name_of(dtype), " ", sample.label);
        Tensors inputs;
        for (const Tensor& x : sample.inputs) inputs.push_back(x.defined() ? x.to(kOther) : x);
        try {
          const Tensor out = sample.function(inputs);
          const Tensor expected = sample.function(sample.inputs);
          if (out.numel() > 0 && out.device() == kOther && out.is_contiguous())
            CHECK(out.to_vector<double>() == expected.to_vector<double>());
          ++moved;
        } catch (const DeviceError& error) {
          CHECK(std::string(error.what()).find("cuda") != std::string::npos);
          ++refused;
        }
      }
    }
  }
  CHECK(refused > 500);  // all that compute
  CHECK(moved > 0);      // views, and what is empty
}

TEST_CASE("devices: a kernel that is set for a functor and its types is what the op runs") {
  other();
  using Add = detail::BinaryValue<detail::AddValue, float>;
  const Tensor a = tensor({1, 2, 3}).to(kOther), b = tensor({10, 20, 30}).to(kOther);
  CHECK_THROWS_WITH_AS(a + b, "add: no kernel for cuda f32", DeviceError);
  auto& kernel = device_kernel<detail::Map<Add, float, float, float>>;
  kernel = dense_kernel<Add, float, float, float>;
  CHECK((a + b).to_vector<float>() == std::vector<float>{11, 22, 33});
  const Tensor wide = tensor({1, 2, 3}).to(DType::f64).to(kOther);
  CHECK_THROWS_WITH_AS(wide + wide, "add: no kernel for cuda f64", DeviceError);
  kernel = nullptr;
  CHECK_THROWS_AS(a + b, DeviceError);
}

}  // namespace tandem
