// The device itself: memory, copies, recordings.
#include <doctest/doctest.h>

#include "autograd/grad_mode.h"
#include "autograd/gradcheck.h"
#include "autograd/tensor.h"
#include "ops/ops.h"
#include "tests/device.h"

using namespace tandem;
using testing::device;

TEST_CASE("device: tensors go there and back, passes included") {
  const Tensor x = tensor({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(x.to(device()).to(kCpu).to_vector<float>() == x.to_vector<float>());
  const Tensor passes = stack_passes({x, x * 2.0}).to(device());
  CHECK(passes.passes() == 2);
  CHECK(passes.to(kCpu).pass(1).to_vector<float>() == (x * 2.0).to_vector<float>());
  CHECK((x.to(device()).t() + 1.0).to(kCpu).to_vector<float>() == (x.t() + 1.0).to_vector<float>());
  CHECK_THROWS_WITH_AS(
      x.to(device()) + x,
      "add: inputs on different devices: f32[2,3] on cuda and f32[2,3] on cpu; x.to(device) moves one",
      DeviceError);
}

TEST_CASE("device: tensors there are printed, filled and read as elsewhere") {
  const Tensor x = arange(0, 2000, 1, {DType::f32, device()}).reshape({2, 1000});
  const auto printed = [](const Tensor& there) {  // as here, but for what is said at the end
    std::string text = to_string(there), there_only = ", device=cuda)";
    CHECK(text.ends_with(there_only));
    return text.substr(0, text.size() - there_only.size()) + ")";
  };
  CHECK(printed(x) == to_string(x.to(kCpu)));
  CHECK(printed(eye(2, {DType::i64, device()})) == to_string(eye(2, {DType::i64})));
  CHECK(x.select(0, 1).select(0, 999).item() == 1999);
  CHECK(full({3}, 2.5, {DType::bf16, device()}).to_vector<double>() == std::vector<double>(3, 2.5));
}

TEST_CASE("device: the gradient check works there, and names the entry that is wrong") {
  const Tensor x = scalar(2, {DType::f64}).expand({3}).contiguous().to(device());
  CHECK(gradcheck([](const Tensors& in) { return in[0] * in[0]; }, {x}, {.second_order = true}).passed);
  const GradcheckResult wrong = gradcheck([](const Tensors& in) { return in[0] * in[0].detach(); }, {x});
  CHECK_FALSE(wrong.passed);
  CHECK(wrong.message.find("vjp 2, central difference 4") != std::string::npos);
  CHECK_MESSAGE(wrong.message.find("worst Jacobian entry: d output[0] / d input[0]") != std::string::npos,
                wrong.message);
}

TEST_CASE("device: memory is counted, kept, and given back") {
  Backend& backend = tandem::backend(device());
  backend.release_cached();
  const MemoryStats before = backend.stats();
  CHECK(before.cached == 0);
  void* address = nullptr;
  {
    const Tensor x = zeros({1000}, {DType::f32, device()});
    address = x.device_raw();
    CHECK(backend.stats().in_use >= before.in_use + 4000);
  }
  CHECK(backend.stats().in_use == before.in_use);
  CHECK(backend.stats().cached >= 4000);
  CHECK(zeros({1000}, {DType::f32, device()}).device_raw() == address);
  backend.release_cached();
  CHECK(backend.stats().cached == 0);
}

TEST_CASE("device: out of memory says what was asked, held and cached, and what needs less") {
  try {
    empty({int64_t{1} << 44}, {DType::f32, device()});
    FAIL("nothing was thrown");
  } catch (const DeviceError& error) {
    const std::string message = error.what();
    for (const char* part : {"out of memory", "asked for", "held by tensors", "cached", "Plan::replay"}) {
      INFO(message);
      CHECK(message.find(part) != std::string::npos);
    }
  }
}

TEST_CASE("device: a recording does the same work again on what its inputs hold then") {
  Backend& backend = tandem::backend(device());
  const Tensor x = tensor({1, 2, 3}).to(device()), sum = zeros({3}, {DType::f32, device()});
  sum.add_(x, 2);  // once outside, so that every kernel was there before
  sum.zero_();
  backend.begin_recording();
  sum.add_(x * x + 1.0, 2);
  const std::unique_ptr<Recording> recording = backend.end_recording();
  CHECK(sum.to_vector<float>() == std::vector<float>{0, 0, 0});  // recorded, not done
  recording->replay();
  CHECK(sum.to_vector<float>() == std::vector<float>{4, 10, 20});
  x.copy_(tensor({0, 1, 0}).to(device()));
  const Tensor other = zeros({1 << 16}, {DType::f32, device()});  // does not get the recording's memory
  recording->replay();
  CHECK(sum.to_vector<float>() == std::vector<float>{6, 14, 22});
  CHECK(other.sum().item() == 0);
}

TEST_CASE("device: waiting for the device while recording is an error, and leaves the device usable") {
  Backend& backend = tandem::backend(device());
  const Tensor x = tensor({1, 2, 3}).to(device());
  backend.begin_recording();
  CHECK_THROWS_AS((x + 1.0).to_vector<float>(), DeviceError);
  backend.cancel_recording();
  CHECK((x + 1.0).to_vector<float>() == std::vector<float>{2, 3, 4});
}

TEST_CASE("device: a recording has the memory that was cached, and shares its own with the next one") {
  Backend& backend = tandem::backend(device());
  const auto work = [](const Tensor& x) { return ((x + 1.0) * 2.0 + x).sum(); };  // 3 MiB at once
  const Tensor x = ones({1 << 18}, {DType::f32, device()});
  work(x);
  backend.release_cached();
  const int64_t before = backend.stats().cached;
  work(x);
  const int64_t needed = backend.stats().cached - before;
  CHECK(needed > 0);
  std::vector<std::unique_ptr<Recording>> recordings;
  Tensors sums;
  for (int i = 0; i < 4; ++i) {
    backend.begin_recording(i == 0 ? nullptr : recordings[0].get());
    sums.push_back(work(x));
    recordings.push_back(backend.end_recording());
    CHECK(backend.stats().cached - before <= needed);
  }
  for (int i = 3; i >= 0; --i) {
    recordings[i]->replay();
    CHECK(sums[i].item() == 5.0 * (1 << 18));
  }
  recordings.clear();
  backend.release_cached();
  CHECK(backend.stats().cached == before);
}

TEST_CASE("device: an upload that nobody waited for is over before its memory has another use") {
  Backend& backend = tandem::backend(device());
  for (int i = 0; i < 20; ++i) {
    const std::vector<float> data(1000, 3);
    {
      const Tensor dropped = empty({1000}, {DType::f32, device()});
      backend.upload(dropped.device_raw(), data.data(), 4000);
    }
    const Tensor next = ones({1000}, {DType::f32, device()});
    CHECK(next.sum().item() == 1000);
  }
}

TEST_CASE("device: large tensors go there in pieces, and come back whole") {
  const int64_t n = (int64_t{40} << 20) + 12345;
  Tensor x = empty({n}, {DType::u8});
  for (int64_t i = 0; i < n; ++i) x.data<uint8_t>()[i] = static_cast<uint8_t>(i * 7 + (i >> 20));
  CHECK(x.to(device()).to_vector<uint8_t>() == x.to_vector<uint8_t>());
}

TEST_CASE("device: an upload beside other work is there for the work that comes later") {
  Backend& backend = tandem::backend(device());
  Tensor slot = zeros({4}, {DType::f32, device()});
  float total = 0;
  for (int i = 0; i < 5; ++i) {
    const Tensor used = slot * 2.0;
    const std::vector<float> next(4, static_cast<float>(i));
    backend.upload(slot.device_raw(), next.data(), 16);
    backend.await_uploads();
    total += static_cast<float>(slot.sum().item());
  }
  CHECK(total == 4 * (0 + 1 + 2 + 3 + 4));
}
