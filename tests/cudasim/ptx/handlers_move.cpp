// mov, also between a value and the vector of its parts.
#include "ptx/handlers.h"

namespace cudasim {
namespace {

struct Move {
  template <class T> T operator()(T a) const { return a; }
};

void unpack(Warp& w, const Instruction& in, uint32_t lanes) {  // d = bits [offset, offset + bytes * 8) of a
  const bool wide_source = (in.flags & 1) != 0, wide_result = (in.flags & 2) != 0;
  const uint64_t mask = in.bytes == 8 ? ~uint64_t{0} : (uint64_t{1} << (in.bytes * 8)) - 1;
  for_lanes(lanes, [&](int i) {
    const uint64_t value = wide_source ? w.row<uint64_t>(in.a)[i] : w.row<uint32_t>(in.a)[i];
    const uint64_t part = value >> in.offset & mask;
    if (wide_result) {
      w.row<uint64_t>(in.d)[i] = part;
    } else {
      w.row<uint32_t>(in.d)[i] = static_cast<uint32_t>(part);
    }
  });
}

template <class T> void pack(Warp& w, const Instruction& in, uint32_t lanes) {
  const Row* rows = w.current.function->row_lists.data() + in.target;
  const uint64_t mask = (uint64_t{1} << (in.bytes * 8)) - 1;
  auto* d = w.row<T>(in.d);
  for_lanes(lanes, [&](int i) {
    uint64_t value = 0;
    for (int k = 0; k < in.elements; ++k) value |= (w.row<uint32_t>(rows[k])[i] & mask) << (k * in.bytes * 8);
    d[i] = static_cast<T>(value);
  });
}

Type bits_of(int bytes) {
  return bytes == 1 ? Type::b8 : bytes == 2 ? Type::b16 : bytes == 4 ? Type::b32 : Type::b64;
}

void decode_mov(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  if (type == Type::pred) {
    in.d = d.predicate(d.operand(0));
    in.flags = negations(d, 1);
    in.a = d.predicate(d.operand(1));
    in.run = &predicate_unary<Move>;
    return;
  }
  const int bytes = size_of(type);
  const RawOperand &to = d.operand(0), &from = d.operand(1);
  if (to.form == RawOperand::vector) {
    const int part = bytes / static_cast<int>(to.elements.size());
    const Row source = d.source(from, type);
    for (size_t k = 0; k < to.elements.size(); ++k) {
      Instruction one;
      one.run = &unpack;
      one.a = source;
      one.bytes = static_cast<uint8_t>(part);
      one.offset = static_cast<int64_t>(k) * part * 8;
      one.flags = (bytes == 8 ? 1u : 0) | (part == 8 ? 2u : 0);
      one.d = d.destination(to.elements[k], bits_of(part));
      if (k + 1 < to.elements.size()) {
        one.counted = false;
        d.before(one);
      } else {
        in = one;
      }
    }
    return;
  }
  if (from.form == RawOperand::vector) {
    const int part = bytes / static_cast<int>(from.elements.size());
    if (part > 4) d.fail("vector of 64-bit elements in mov");
    std::vector<Row> rows;
    for (const RawOperand& element : from.elements) rows.push_back(d.source(element, bits_of(part)));
    in.d = d.destination(to, type);
    in.target = d.row_list(rows);
    in.elements = static_cast<uint8_t>(rows.size());
    in.bytes = static_cast<uint8_t>(part);
    in.run = bytes == 8 ? &pack<uint64_t> : &pack<uint32_t>;
    return;
  }
  decode_unary(d, in, type, type);
  in.run = bytes == 8 ? &unary<uint64_t, uint64_t, Move> : &unary<uint32_t, uint32_t, Move>;
}

}  // namespace

void add_move(DecodeTable& table) { table["mov"] = &decode_mov; }

}  // namespace cudasim
