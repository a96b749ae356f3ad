// PTX that nvcc does not write for the other tests' kernels, and how the simulation refuses what it does not
// know.
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <string>

#include "device_array.h"
#include "sim.h"

extern "C" {
void** __cudaRegisterFatBinary(void* wrapper);
void __cudaUnregisterFatBinary(void** handle);
void __cudaRegisterFunction(void** handle, const char* host, char* device, const char* name, int limit,
                            uint3* tid, uint3* bid, dim3* block, dim3* grid, int* warp);
}

namespace {

// A module as nvcc embeds it: a header, and one entry that holds PTX.
class Module {
 public:
  explicit Module(const std::string& body) {
    text_ = ".version 9.0\n.target sm_75\n.address_size 64\n" + body;
    const uint64_t size = text_.size() + 1;
    fatbin_.resize(16 + 64 + size);
    const uint16_t header = 16, kind = 1;
    const uint32_t entry_header = 64;
    const uint64_t total = 64 + size;
    std::memcpy(&fatbin_[6], &header, 2);
    std::memcpy(&fatbin_[8], &total, 8);
    std::memcpy(&fatbin_[16], &kind, 2);
    std::memcpy(&fatbin_[20], &entry_header, 4);
    std::memcpy(&fatbin_[24], &size, 8);
    std::memcpy(&fatbin_[80], text_.c_str(), size);
    wrapper_.data = fatbin_.data();
    handle_ = __cudaRegisterFatBinary(&wrapper_);
    __cudaRegisterFunction(handle_, &host_, nullptr, "test", -1, nullptr, nullptr, nullptr, nullptr, nullptr);
  }
  ~Module() { __cudaUnregisterFatBinary(handle_); }
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Of a kernel with one parameter, a pointer.
  cudaError_t launch(const void* argument, unsigned threads, unsigned blocks = 1) const {
    void* arguments[] = {&argument};
    return cudaLaunchKernel(&host_, dim3(blocks), dim3(threads), arguments, 0, nullptr);
  }

 private:
  struct {
    int magic = 0x466243b1, version = 1;
    const char* data = nullptr;
    void* more = nullptr;
  } wrapper_;
  std::string text_;
  std::vector<char> fatbin_;
  void** handle_;
  char host_ = 0;
};

// A kernel that stores %r9 for each thread; `body` computes it from %r0, the thread's number.
std::string kernel(const std::string& body, const std::string& outside = "") {
  return outside + R"(
.visible .entry test(.param .u64 out) {
  .reg .pred %p<10>;
  .reg .b16 %h<10>;
  .reg .b32 %r<20>;
  .reg .f32 %f<10>;
  .reg .b64 %rd<20>;
  ld.param.u64 %rd0, [out];
  mov.u32 %r0, %tid.x;
)" + body +
         R"(
  mad.wide.u32 %rd1, %r0, 4, %rd0;
  st.global.u32 [%rd1], %r9;
  ret;
}
)";
}

std::vector<uint32_t> run(const std::string& text, unsigned threads = 32) {
  const Module module(text);
  const DeviceArray<uint32_t> out(std::vector<uint32_t>(threads, 0));
  require(module.launch(out.data(), threads));
  require(cudaDeviceSynchronize());
  return out.values();
}

std::string refusal(const std::string& text) {
  const cudasim::Options before = cudasim::options();
  cudasim::options().print = false;
  const Module module(text);
  const DeviceArray<uint32_t> out(32);
  CHECK(module.launch(out.data(), 32) == cudaErrorInvalidPtx);
  CHECK(cudaDeviceSynchronize() == cudaErrorInvalidPtx);
  CHECK_THROWS_AS(cudasim::check_all_kernels(), std::runtime_error);
  const std::string result = cudasim::reports().empty() ? "" : cudasim::reports()[0].message;
  cudasim::options() = before;
  cudasim::reset_reports();
  return result;
}

}  // namespace

TEST_CASE("ptx: a table of branches") {
  const auto y = run(kernel(R"(
  and.b32 %r1, %r0, 3;
table: .branchtargets zero, one, two, zero;
  brx.idx %r1, table;
zero: mov.u32 %r9, 100; bra done;
one: mov.u32 %r9, 101; bra done;
two: mov.u32 %r9, 102;
done:)"));
  for (uint32_t i = 0; i < 32; ++i) CHECK(y[i] == 100 + (i % 4 == 3 ? 0 : i % 4));
}

TEST_CASE("ptx: scopes with names of their own, packing and unpacking") {
  const auto y = run(kernel(R"(
  .reg .b32 x;
  mov.u32 x, 5;
  { .reg .b32 x; .reg .b16 l, h; mov.u32 x, %r0; mov.b32 {l, h}, x; mov.b32 %r9, {h, l}; }
  add.u32 %r9, %r9, x;
  mov.b64 %rd2, {%r9, %r0};
  mov.b64 {%r3, %r4}, %rd2;
  add.u32 %r9, %r3, %r4;)"));
  for (uint32_t i = 0; i < 32; ++i) CHECK(y[i] == (i << 16) + 5 + i);
}

TEST_CASE("ptx: addresses of parameters, shared and local memory in one generic load") {
  const auto y = run(kernel(R"(
  .local .align 4 .b8 own[16];
  .shared .align 4 .b8 common[16];
  mov.u64 %rd2, own;
  st.local.u32 [%rd2+4], %r0;
  cvta.local.u64 %rd3, %rd2;
  mov.u32 %r1, 1000;
  mov.u64 %rd4, common;
  setp.eq.u32 %p1, %r0, 0;
  @%p1 st.shared.u32 [%rd4+4], %r1;
  bar.sync 0;
  cvta.shared.u64 %rd5, %rd4;
  mov.b64 %rd6, out;
  cvta.param.u64 %rd7, %rd6;
  setp.lt.u32 %p2, %r0, 10;
  selp.b64 %rd8, %rd3, %rd5, %p2;
  setp.gt.u32 %p3, %r0, 20;
  @%p3 mov.b64 %rd8, %rd7;
  isspacep.shared %p4, %rd8;
  ld.u32 %r9, [%rd8+4];
  @%p4 add.u32 %r9, %r9, 1;)"));
  for (uint32_t i = 0; i < 32; ++i) {
    if (i <= 20) CHECK(y[i] == (i < 10 ? i : 1001));
    if (i > 20) CHECK(y[i] != 0);  // the upper half of a pointer
  }
}

TEST_CASE("ptx: named barriers of producers and consumers") {
  const auto y = run(kernel(R"(
  .shared .align 4 .b8 box[4];
  setp.ge.u32 %p1, %r0, 32;
  @%p1 bra consumer;
  setp.eq.u32 %p2, %r0, 3;
  mov.u32 %r9, 7;
  @%p2 st.shared.u32 [box], %r9;
  bar.arrive 2, 64;
  bra done;
consumer:
  bar.sync 2, 64;
  ld.shared.u32 %r9, [box];
  add.u32 %r9, %r9, 1;
done:)"),
                     64);
  for (uint32_t i = 0; i < 64; ++i) CHECK(y[i] == (i < 32 ? 7 : 8));
}

TEST_CASE("ptx: comparisons to numbers, choices by sign, classes of numbers, predicates") {
  const auto y = run(kernel(R"(
  cvt.rn.f32.u32 %f1, %r0;
  sub.f32 %f1, %f1, 0f41800000;
  set.gt.u32.f32 %r1, %f1, 0f00000000;
  set.le.f32.f32 %f2, %f1, 0f00000000;
  slct.u32.f32 %r2, 10, 20, %f1;
  rcp.rn.f32 %f3, %f1;
  testp.infinite.f32 %p1, %f3;
  selp.u32 %r3, 100, 0, %p1;
  setp.lt.and.f32 %p2|%p3, %f1, 0fC0A00000, !%p1;
  not.pred %p4, %p3;
  xor.pred %p5, %p2, %p4;
  selp.u32 %r4, 1000, 0, %p5;
  and.b32 %r1, %r1, 1;
  cvt.rzi.u32.f32 %r5, %f2;
  shl.b32 %r5, %r5, 14;
  add.u32 %r9, %r1, %r2;
  add.u32 %r9, %r9, %r3;
  add.u32 %r9, %r9, %r4;
  add.u32 %r9, %r9, %r5;)"));
  for (int i = 0; i < 32; ++i) {
    const int f = i - 16;
    const bool infinite = f == 0, less = f < -5 && !infinite, not_less = !(f < -5) && !infinite;
    const int expected = (f > 0 ? 1 : 0) + (f >= 0 ? 10 : 20) + (infinite ? 100 : 0) +
                         (less != !not_less ? 1000 : 0) + (f <= 0 ? 1 << 14 : 0);
    CHECK(y[static_cast<size_t>(i)] == static_cast<uint32_t>(expected));
  }
}

TEST_CASE("ptx: registers wider than the instruction's type") {
  const auto y = run(kernel(R"(
  cvt.u64.u32 %rd2, %r0;
  sub.s64 %rd2, %rd2, 4;
  cvt.s64.s8 %rd3, %rd2;
  mad.wide.u32 %rd4, %r0, 4, %rd0;
  st.global.u32 [%rd4], %rd3;
  ld.global.u32 %rd5, [%rd4];
  ld.global.s16 %rd6, [%rd4];
  shr.u64 %rd5, %rd5, 8;
  sub.u64 %rd5, %rd5, %rd6;
  cvt.u32.u64 %r9, %rd5;)"));
  for (int i = 0; i < 32; ++i)
    CHECK(y[static_cast<size_t>(i)] == (static_cast<uint32_t>(i - 4) >> 8) - static_cast<uint32_t>(i - 4));
}

TEST_CASE("ptx: variables that point to variables") {
  const auto y = run(kernel(R"(
  ld.global.u64 %rd2, [second];
  ld.global.u32 %r9, [%rd2];)",
                            R"(
.global .align 4 .u32 first[3] = {11, 22, 33};
.global .align 8 .u64 second = generic(first)+4;
)"));
  for (const uint32_t value : y) CHECK(value == 22);
}

TEST_CASE("ptx: counting atomics wrap") {
  const Module module(kernel(R"(
  atom.global.inc.u32 %r9, [%rd0+128], 9;
  red.global.dec.u32 [%rd0+132], 4;)"));
  const DeviceArray<uint32_t> out(std::vector<uint32_t>(34, 0));
  require(module.launch(out.data(), 32));
  const std::vector<uint32_t> y = out.values();
  CHECK(y[32] == 2);
  CHECK(y[33] == 3);  // 0 wraps to 4, and after 32 steps of a period of 5
}

TEST_CASE("ptx: what is unknown is refused by name") {
  CHECK(refusal(kernel("  wgmma.fence.sync.aligned;")) ==
        "PTX line 13: 'wgmma.fence.sync.aligned': unknown instruction; in test");
  CHECK(refusal(kernel("  add.wild.u32 %r9, %r0, 1;")) ==
        "PTX line 13: 'add.wild.u32': unknown modifier '.wild'; in test");
  CHECK(refusal(kernel("  add.f16 %h1, %h1, %h1;")).find("no floating-point arithmetic of this type") !=
        std::string::npos);
  CHECK(refusal(kernel("  add.u32 %r9, %r0, 1, 2;")).find("operand 4 is not understood") !=
        std::string::npos);
  CHECK(refusal(kernel("  mov.u32 %r9, %pm0;")).find("unknown special register '%pm0'") != std::string::npos);
  CHECK(refusal(kernel("  mov.u32 %r99, 1;")).find("unknown register '%r99'") != std::string::npos);
  CHECK(refusal(kernel("  bra nowhere;")).find("no label 'nowhere'") != std::string::npos);
  CHECK(
      refusal(kernel("  call.uni vprintf, ();")).find("calls 'vprintf', which the module does not define") !=
      std::string::npos);
  CHECK(refusal(kernel("  .tex .u64 picture;")).find("unknown directive '.tex'") != std::string::npos);
}
