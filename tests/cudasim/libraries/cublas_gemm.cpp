#include "libraries/cublas_gemm.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sim.h"

namespace cudasim {
namespace {

bool has(const Gemm& g, int bits) { return (g.epilogue & bits) == bits; }
constexpr int kAux = 128, kBiasGradient = 16;

// Elements, from and to memory.

// The i-th T, at any alignment: what a library does not take at some addresses is checked elsewhere.
template <class T> T element(const void* data, int64_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <class T> void set_element(void* data, int64_t i, T value) {
  std::memcpy(static_cast<char*>(data) + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

template <class A> A load(const void* data, int64_t i, cudaDataType type) {
  switch (type) {
    case CUDA_R_32F:
      return static_cast<A>(element<float>(data, i));
    case CUDA_R_64F:
      return static_cast<A>(element<double>(data, i));
    default:
      return static_cast<A>(std::bit_cast<float>(uint32_t{element<uint16_t>(data, i)} << 16));
  }
}

uint16_t to_bf16(float value) {  // to nearest even
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float to_tf32(float value) {
  if (!std::isfinite(value)) return value;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return std::bit_cast<float>((bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu);
}

template <class A> void store(void* data, int64_t i, cudaDataType type, A value) {
  switch (type) {
    case CUDA_R_32F:
      return set_element(data, i, static_cast<float>(value));
    case CUDA_R_64F:
      return set_element(data, i, static_cast<double>(value));
    default:
      return set_element(data, i, to_bf16(static_cast<float>(value)));
  }
}

// What a product touches.

bool reads_bias(const Gemm& g) { return has(g, CUBLASLT_EPILOGUE_BIAS); }
bool writes_bias(const Gemm& g) {
  return has(g, kBiasGradient) || has(g, CUBLASLT_EPILOGUE_BGRADA) || has(g, CUBLASLT_EPILOGUE_BGRADB);
}
bool is_backward(const Gemm& g) { return has(g, CUBLASLT_EPILOGUE_DRELU) || has(g, CUBLASLT_EPILOGUE_DGELU); }
bool has_mask(const Gemm& g) {
  return has(g, kAux) && (has(g, CUBLASLT_EPILOGUE_RELU) || has(g, CUBLASLT_EPILOGUE_DRELU));
}

size_t bytes(int64_t count, cudaDataType type) { return static_cast<size_t>(count * size_of(type)); }

uint64_t moved = 0;

// An operand of the matrix `i` of the batch: where host code finds it. Padding between its columns may hold
// anything, and is left alone.
template <class Check>
auto locate(const Gemm& g, const GemmMatrix& x, int64_t i, const char* name, const Check& check) {
  const std::string who = std::string(g.call) + ": " + name;
  char* data = static_cast<char*>(x.data) + i * x.stride * size_of(x.type);
  if (i == 0 || x.stride != 0) moved += static_cast<size_t>(x.cols) * bytes(x.rows, x.type);
  return check(data, static_cast<size_t>(x.cols), bytes(x.rows, x.type), x.ld * size_of(x.type), who.c_str());
}
void locate_to_read(const Gemm& g, GemmMatrix& x, int64_t i, const char* name) {
  x.data = const_cast<void*>(locate(g, x, i, name, check_read_rows));
}
void locate_to_write(const Gemm& g, GemmMatrix& x, int64_t i, const char* name) {
  x.data = locate(g, x, i, name, check_write_rows);
}

// One product of the batch with the addresses of the host.
Gemm located(const Gemm& g, int64_t i) {
  Gemm one = g;
  if (g.k > 0) locate_to_read(g, one.a, i, "A"), locate_to_read(g, one.b, i, "B");
  if (g.beta != 0) locate_to_read(g, one.c, i, "C");
  if (has(g, kAux)) {
    GemmMatrix aux{g.aux, g.d.type, g.m, g.n, g.aux_ld, 0};
    if (has_mask(g)) aux = {g.aux, CUDA_R_8I, (g.m + 7) / 8, g.n, g.aux_ld / 8, 0};
    is_backward(g) ? locate_to_read(g, aux, 0, "aux") : locate_to_write(g, aux, 0, "aux");
    one.aux = aux.data;
  }
  const int64_t length = has(g, CUBLASLT_EPILOGUE_BGRADB) ? g.n : g.m;
  GemmMatrix bias{g.bias, g.d.type, length, 1, length, 0};
  if (reads_bias(g)) locate_to_read(g, bias, 0, "bias");
  if (writes_bias(g)) locate_to_write(g, bias, 0, "bias gradient");
  one.bias = bias.data;
  locate_to_write(g, one.d, i, "D");
  return one;
}

using Range = std::pair<const char*, const char*>;
std::vector<Range> ranges(const GemmMatrix& x, int64_t batch) {
  std::vector<Range> result;
  for (int64_t i = 0; i < (x.stride == 0 ? 1 : batch); ++i) {
    for (int64_t j = 0; j < x.cols; ++j) {
      const char* begin = static_cast<const char*>(x.data) + (i * x.stride + j * x.ld) * size_of(x.type);
      result.push_back({begin, begin + x.rows * size_of(x.type)});
    }
  }
  std::sort(result.begin(), result.end());
  return result;
}

// The result is undefined where the output overlaps an operand, or another output of the batch.
void check_overlap(const Gemm& g) {
  const std::vector<Range> out = ranges(g.d, g.batch);
  bool clash = g.d.stride == 0 && g.batch > 1;
  for (size_t i = 1; i < out.size(); ++i) clash |= out[i].first < out[i - 1].second;
  if (clash) report("gemm", std::string(g.call) + ": the outputs of the batch overlap");
  for (const GemmMatrix* x : {&g.a, &g.b}) {
    bool overlaps = false;
    for (const Range& range : ranges(*x, g.batch)) {
      const auto next = std::upper_bound(out.begin(), out.end(), range);
      overlaps |= (next != out.end() && next->first < range.second) ||
                  (next != out.begin() && std::prev(next)->second > range.first);
    }
    if (overlaps) report("gemm", std::string(g.call) + ": the output overlaps " + (x == &g.a ? "A" : "B"));
  }
}

void check_alignment(const Gemm& g) {
  const auto check = [&](const void* data, cudaDataType type, const char* name) {
    if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(size_of(type)) != 0)
      report("misaligned", std::string(g.call) + ": " + name + " is not aligned to its elements",
             cudaErrorMisalignedAddress);
  };
  check(g.a.data, g.a.type, "A"), check(g.b.data, g.b.type, "B"), check(g.d.data, g.d.type, "D");
  if (g.beta != 0) check(g.c.data, g.c.type, "C");
}

// The product: op(a) in panels of kRows rows, op(b) in panels of kCols columns, k outermost in a panel; a
// tile of the two stays in registers while k runs.
template <class A> struct Panels {
  typedef A Vector __attribute__((vector_size(32), may_alias));
  static constexpr int64_t kLanes = 32 / static_cast<int64_t>(sizeof(A)), kRows = 2 * kLanes, kCols = 4;
};

template <class A>
std::vector<A> pack(const GemmMatrix& x, bool transpose, int64_t count, int64_t k, int64_t width, bool tf32) {
  std::vector<A> packed(static_cast<size_t>((count + width - 1) / width * width * k), A(0));
  for (int64_t i = 0; i < count; ++i) {
    A* to = packed.data() + i / width * width * k + i % width;
    for (int64_t p = 0; p < k; ++p) {
      A value = load<A>(x.data, transpose ? p + i * x.ld : i + p * x.ld, x.type);
      if (tf32) value = static_cast<A>(to_tf32(static_cast<float>(value)));
      to[p * width] = value;
    }
  }
  return packed;
}

// sums [n][m], column-major
template <class A> std::vector<A> multiply(const Gemm& g, const std::vector<A>& a, const std::vector<A>& b) {
  using P = Panels<A>;
  using Vector = typename P::Vector;
  std::vector<A> sums(static_cast<size_t>(g.m * g.n), A(0));
  for (int64_t j = 0; j < g.n; j += P::kCols) {
    for (int64_t i = 0; i < g.m; i += P::kRows) {
      const A* pa = a.data() + i * g.k;
      const A* pb = b.data() + j * g.k;
      Vector tile[P::kCols][2] = {};
      for (int64_t p = 0; p < g.k; ++p, pa += P::kRows, pb += P::kCols) {
        Vector rows[2];
        std::memcpy(rows, pa, sizeof rows);
        for (int64_t col = 0; col < P::kCols; ++col) {
          tile[col][0] += pb[col] * rows[0];
          tile[col][1] += pb[col] * rows[1];
        }
      }
      const int64_t used = std::min(P::kRows, g.m - i);
      for (int64_t col = 0; col < std::min(P::kCols, g.n - j); ++col)
        std::memcpy(sums.data() + (j + col) * g.m + i, tile[col], static_cast<size_t>(used) * sizeof(A));
    }
  }
  return sums;
}

// The library's GELU is the tanh approximation.
template <class A> A gelu(A x) {
  return A(0.5) * x * (1 + std::tanh(A(0.7978845608028654) * (x + A(0.044715) * x * x * x)));
}
template <class A> A gelu_slope(A x) {
  const A t = std::tanh(A(0.7978845608028654) * (x + A(0.044715) * x * x * x));
  return A(0.5) * (1 + t) + A(0.5) * x * (1 - t * t) * A(0.7978845608028654) * (1 + A(3 * 0.044715) * x * x);
}

template <class A> A finish(const Gemm& g, A value, int64_t i, int64_t j) {
  if (reads_bias(g)) value += load<A>(g.bias, i, g.d.type);
  uint8_t* byte = static_cast<uint8_t*>(g.aux) + (j * g.aux_ld + i) / 8;
  const uint8_t bit = static_cast<uint8_t>(1 << i % 8);
  if (has(g, CUBLASLT_EPILOGUE_DRELU)) return *byte & bit ? value : A(0);
  if (has(g, CUBLASLT_EPILOGUE_DGELU)) return value * gelu_slope(load<A>(g.aux, j * g.aux_ld + i, g.d.type));
  if (has(g, CUBLASLT_EPILOGUE_RELU)) {
    if (has(g, kAux)) *byte = static_cast<uint8_t>(value > 0 ? *byte | bit : *byte & ~bit);
    return value < 0 ? A(0) : value;
  }
  if (has(g, CUBLASLT_EPILOGUE_GELU)) {
    if (has(g, kAux)) store(g.aux, j * g.aux_ld + i, g.d.type, value);
    return gelu(value);
  }
  return value;
}

// The sums over k of op(a)'s rows or op(b)'s columns, whose panels are `width` wide.
template <class A>
void store_sums(const Gemm& g, const std::vector<A>& panels, int64_t count, int64_t width) {
  for (int64_t i = 0; i < count; ++i) {
    const A* from = panels.data() + i / width * width * g.k + i % width;
    A sum = 0;
    for (int64_t p = 0; p < g.k; ++p) sum += from[p * width];
    store(g.bias, i, g.d.type, sum);
  }
}

template <class A> void compute(const Gemm& g) {
  using P = Panels<A>;
  const bool rounds = g.tf32 && g.a.type == CUDA_R_32F;
  const auto a = pack<A>(g.a, g.transpose_a, g.m, g.k, P::kRows, rounds);
  const auto b = pack<A>(g.b, !g.transpose_b, g.n, g.k, P::kCols, rounds);
  const std::vector<A> sums = multiply<A>(g, a, b);
  std::vector<A> gradient(has(g, kBiasGradient) ? static_cast<size_t>(g.m) : 0, A(0));
  for (int64_t j = 0; j < g.n; ++j) {
    for (int64_t i = 0; i < g.m; ++i) {
      A value = static_cast<A>(g.alpha) * sums[static_cast<size_t>(j * g.m + i)];
      if (g.beta != 0) value += static_cast<A>(g.beta) * load<A>(g.c.data, j * g.c.ld + i, g.c.type);
      value = finish(g, value, i, j);
      if (!gradient.empty()) gradient[static_cast<size_t>(i)] += value;
      store(g.d.data, j * g.d.ld + i, g.d.type, value);
    }
  }
  for (size_t i = 0; i < gradient.size(); ++i) store(g.bias, static_cast<int64_t>(i), g.d.type, gradient[i]);
  if (has(g, CUBLASLT_EPILOGUE_BGRADA)) store_sums(g, a, g.m, P::kRows);
  if (has(g, CUBLASLT_EPILOGUE_BGRADB)) store_sums(g, b, g.n, P::kCols);
}

// All of it must be there; its beginning stands for what a kernel writes to it.
void spoil_workspace(const Gemm& g) {
  const auto size = static_cast<size_t>(g.workspace_bytes);
  if (bytes_behind(g.workspace) < size)
    report("out of bounds", std::string(g.call) + ": the workspace is smaller than its " +
                                std::to_string(size) + " bytes, or freed");
  const size_t used = std::min<size_t>(size, 4096);
  check_write(g.workspace, used, (std::string(g.call) + ": workspace").c_str());
  mark_uninitialised(g.workspace, used);
}

std::map<int, int64_t>& products() {
  static std::map<int, int64_t> counts;
  return counts;
}

}  // namespace

uint64_t product_bytes() { return moved; }

int64_t products_run(int epilogue) { return products()[epilogue]; }

int64_t size_of(cudaDataType type) {
  switch (type) {
    case CUDA_R_64F:
      return 8;
    case CUDA_R_32F:
      return 4;
    case CUDA_R_16BF:
      return 2;
    case CUDA_R_8I:  // a byte of a bit mask
      return 1;
    default:
      return 0;
  }
}

void run_gemm(const Gemm& gemm) {
  ++products()[gemm.epilogue];
  if (gemm.batch == 0 || gemm.m == 0 || gemm.n == 0) return;
  check_alignment(gemm);
  check_overlap(gemm);
  if (gemm.workspace_bytes > 0) spoil_workspace(gemm);
  for (int64_t i = 0; i < gemm.batch; ++i) {
    const Gemm one = located(gemm, i);
    gemm.d.type == CUDA_R_64F ? compute<double>(one) : compute<float>(one);
  }
}

}  // namespace cudasim
