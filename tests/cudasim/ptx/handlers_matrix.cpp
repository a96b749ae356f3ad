// What a whole warp does with small matrices: ldmatrix, and mma of 16-bit elements. A lane g * 4 + q holds of
// an 8 x 8 matrix the elements 2 q and 2 q + 1 of row g.
#include "memory/access_checker.h"
#include "ptx/half.h"
#include "ptx/handlers.h"

namespace cudasim {
namespace {

constexpr uint32_t row_bytes = 16;  // of an 8 x 8 matrix
enum MatrixFlags : uint32_t { transposed = 1, of_bf16 = 2 };

// Exited lanes do not count for other collectives; here every lane has a part.
void require_whole_warp(Warp& w, uint32_t lanes, const char* what) {
  if (lanes != ~0u)
    w.abort("warp collective", std::string(what) + " by lanes " + hex(lanes) + ", not by the whole warp",
            static_cast<uint32_t>(std::countr_zero(lanes)), cudaErrorLaunchFailure);
}

// Lane 8 i + r has the address of row r of matrix i; what it reads goes to four others, or all.
void load_matrices(Warp& w, const Instruction& in, uint32_t lanes) {
  require_whole_warp(w, lanes, "ldmatrix");
  uint64_t addresses[warp_size];
  w.addresses(in, addresses);
  const Row* to = w.current.function->row_lists.data() + in.target;
  const uint32_t count = in.elements * 8u;
  uint16_t values[4][8][8];
  for (uint32_t lane = 0; lane < count; ++lane) {
    addresses[lane] &= ~window_mask;
    const std::byte* bytes = shared_bytes<Access::read>(w, in, lane, addresses[lane], row_bytes);
    std::memcpy(values[lane / 8][lane % 8], bytes, row_bytes);
    // Not its own writes alone have to be ordered before: a neighbour reads them, too.
    shared_bytes<Access::read>(w, in, lane ^ 1, addresses[lane], row_bytes);
  }
  for (uint32_t i = 0; i < in.elements; ++i) {
    auto* d = w.row<uint32_t>(to[i]);
    for (uint32_t lane = 0; lane < warp_size; ++lane) {
      const uint32_t g = lane / 4, q = lane % 4 * 2;
      const bool columns = (in.flags & transposed) != 0;
      const uint32_t low = columns ? values[i][q][g] : values[i][g][q];
      const uint32_t high = columns ? values[i][q + 1][g] : values[i][g][q + 1];
      d[lane] = high << 16 | low;
    }
  }
  count_shared(w, addresses, count == 32 ? ~0u : (1u << count) - 1, row_bytes);
}

std::vector<Row> rows_of(Decoder& d, size_t index, size_t count, Type type, bool result) {
  const RawOperand& operand = d.operand(index);
  if (operand.form != RawOperand::vector || operand.elements.size() != count)
    d.fail("expected a vector of " + std::to_string(count) + " registers");
  std::vector<Row> rows;
  for (const RawOperand& element : operand.elements)
    rows.push_back(result ? d.destination(element, type) : d.source(element, type));
  return rows;
}

void decode_load_matrices(Decoder& d, Instruction& in) {
  for (const std::string_view word : {"sync", "aligned", "m8n8"}) d.require(word);
  const std::string_view count = d.take_one_of({"x1", "x2", "x4"});
  if (count.empty()) d.fail("of no known count");
  in.elements = static_cast<uint8_t>(count[1] - '0');
  if (d.take("trans")) in.flags = transposed;
  in.space = take_space(d);
  if (in.space != Space::shared) d.fail("matrices are loaded from shared memory");
  d.require("b16");
  in.target = d.row_list(rows_of(d, 0, in.elements, Type::b32, true));
  d.address(d.operand(1), in);
  in.bytes = row_bytes;
  in.e = d.constant(~0u, 4);
  in.kind = Kind::collective;
  in.run = &load_matrices;
}

float element(uint32_t pair, uint32_t which, bool bf16) {
  const auto bits = static_cast<uint16_t>(pair >> 16 * which);
  return bf16 ? bits_as<float>(uint32_t{bits} << 16) : half_to_float(bits);
}

// d[16, 8] = a[16, 16] b[16, 8] + c[16, 8]. Products are exact and summed in f64; a device sums in an order
// and with roundings of its own.
void multiply(Warp& w, const Instruction& in, uint32_t lanes) {
  require_whole_warp(w, lanes, "mma");
  const Row* list = w.current.function->row_lists.data() + in.target;  // d, a, b, c
  const auto row = [&](int k) { return w.row<const uint32_t>(list[k]); };
  const bool bf16 = (in.flags & of_bf16) != 0;
  float a[16][16], b[16][8];
  for (int r = 0; r < 4; ++r) {
    for (uint32_t lane = 0; lane < warp_size; ++lane)
      for (uint32_t e = 0; e < 2; ++e)
        a[lane / 4 + r % 2 * 8][lane % 4 * 2 + e + r / 2 * 8] = element(row(4 + r)[lane], e, bf16);
  }
  for (int r = 0; r < 2; ++r) {
    for (uint32_t lane = 0; lane < warp_size; ++lane)
      for (uint32_t e = 0; e < 2; ++e)
        b[lane % 4 * 2 + e + r * 8][lane / 4] = element(row(8 + r)[lane], e, bf16);
  }
  double sums[16][8];
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) sums[i][j] = 0;
    for (int k = 0; k < 16; ++k)
      for (int j = 0; j < 8; ++j) sums[i][j] += static_cast<double>(a[i][k]) * static_cast<double>(b[k][j]);
  }
  for (uint32_t r = 0; r < 4; ++r) {
    auto* d = w.row<float>(list[r]);
    const auto* c = w.row<const float>(list[10 + r]);
    for (uint32_t lane = 0; lane < warp_size; ++lane)
      d[lane] =
          static_cast<float>(sums[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2] + static_cast<double>(c[lane]));
  }
}

void decode_multiply(Decoder& d, Instruction& in) {
  for (const std::string_view word : {"sync", "aligned", "m16n8k16", "row", "col", "f32"}) d.require(word);
  const std::string_view type = d.take_one_of({"bf16", "f16"});
  if (type.empty()) d.fail("product of this type");
  d.require(type);
  d.require("f32");
  if (type == "bf16") in.flags = of_bf16;
  std::vector<Row> rows;
  const auto append = [&](size_t index, size_t count, Type of, bool result) {
    for (const Row each : rows_of(d, index, count, of, result)) rows.push_back(each);
  };
  append(0, 4, Type::f32, true);
  append(1, 4, Type::b32, false);
  append(2, 2, Type::b32, false);
  append(3, 4, Type::f32, false);
  in.target = d.row_list(rows);
  in.flops = 16 * 8 * 16 * 2 / warp_size;
  in.e = d.constant(~0u, 4);
  in.kind = Kind::collective;
  in.run = &multiply;
}

}  // namespace

void add_matrix(DecodeTable& table) {
  table["ldmatrix"] = &decode_load_matrices;
  table["mma"] = &decode_multiply;
}

}  // namespace cudasim
