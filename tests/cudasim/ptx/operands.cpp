// Where the operands of instructions are: registers, constants, special registers and addresses of variables.
#include <array>
#include <cstring>

#include "ptx/handlers.h"

namespace cudasim {
namespace {

void narrow(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<uint32_t>(in.d);
  const auto* a = w.row<const uint64_t>(in.a);
  for_lanes(lanes, [&](int i) { d[i] = static_cast<uint32_t>(a[i]); });
}

template <class T> void widen(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<uint64_t>(in.d);
  const auto* a = w.row<const uint32_t>(in.a);
  for_lanes(lanes, [&](int i) { d[i] = static_cast<uint64_t>(static_cast<T>(a[i])); });
}

template <class T> void local_address(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<T>(in.d);
  const auto address = static_cast<T>(w.current.local + static_cast<uint64_t>(in.offset));
  for_lanes(lanes, [&](int i) { d[i] = address; });
}

template <class T> void read_clock(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<T>(in.d);
  const auto now = static_cast<T>(w.launch->counters.warp_instructions);
  for_lanes(lanes, [&](int i) { d[i] = now; });
}

struct SpecialRow {
  std::string_view name;
  Row row;
};
constexpr Row warp_special(WarpRow row) { return make_row(warp_row, static_cast<uint32_t>(row) * row_words); }
constexpr Row block_special(BlockRow row) {
  return make_row(block_row, static_cast<uint32_t>(row) * row_words);
}
constexpr std::array<SpecialRow, 25> specials = {
    {{"%tid.x", warp_special(WarpRow::tid_x)},
     {"%tid.y", warp_special(WarpRow::tid_y)},
     {"%tid.z", warp_special(WarpRow::tid_z)},
     {"%laneid", warp_special(WarpRow::lane)},
     {"%warpid", warp_special(WarpRow::warp)},
     {"%lanemask_eq", warp_special(WarpRow::mask_eq)},
     {"%lanemask_lt", warp_special(WarpRow::mask_lt)},
     {"%lanemask_le", warp_special(WarpRow::mask_le)},
     {"%lanemask_gt", warp_special(WarpRow::mask_gt)},
     {"%lanemask_ge", warp_special(WarpRow::mask_ge)},
     {"%ntid.x", block_special(BlockRow::ntid_x)},
     {"%ntid.y", block_special(BlockRow::ntid_y)},
     {"%ntid.z", block_special(BlockRow::ntid_z)},
     {"%ctaid.x", block_special(BlockRow::ctaid_x)},
     {"%ctaid.y", block_special(BlockRow::ctaid_y)},
     {"%ctaid.z", block_special(BlockRow::ctaid_z)},
     {"%nctaid.x", block_special(BlockRow::nctaid_x)},
     {"%nctaid.y", block_special(BlockRow::nctaid_y)},
     {"%nctaid.z", block_special(BlockRow::nctaid_z)},
     {"%nwarpid", block_special(BlockRow::warps)},
     {"%dynamic_smem_size", block_special(BlockRow::dynamic_shared)},
     {"%total_smem_size", block_special(BlockRow::total_shared)},
     {"%smid", block_special(BlockRow::zero)},
     {"%nsmid", block_special(BlockRow::zero)},
     {"%gridid", block_special(BlockRow::zero)}}};

}  // namespace

Row Decoder::new_row(int bytes) {
  if (bytes == 0) {  // predicates share rows of words
    if (predicates_left_ == 0) {
      next_predicate_ = make_row(frame_row, function_.frame_words);
      function_.frame_words += row_words;
      predicates_left_ = row_words;
    }
    --predicates_left_;
    return next_predicate_++;
  }
  const Row row = make_row(frame_row, function_.frame_words);
  function_.frame_words += bytes == 8 ? 2 * row_words : row_words;
  return row;
}

Row Decoder::temporary(int bytes) { return new_row(bytes); }

Row Decoder::carry() {
  if (carry_ == no_row) carry_ = new_row(0);
  return carry_;
}

const Decoder::Register* Decoder::find_register(std::string_view name) {
  if (const auto it = registers_.find(name); it != registers_.end()) return &it->second;
  // "%r12" of the range "%r<100>"
  size_t digits = name.size();
  while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9') --digits;
  const auto range = ranges_.find(name.substr(0, digits));
  if (digits == name.size() || range == ranges_.end()) return nullptr;
  if (std::stoull(std::string(name.substr(digits))) >= range->second.count) return nullptr;
  const int bytes = storage_of(range->second.type);
  return &(registers_[name] = {new_row(bytes), bytes});
}

Row Decoder::constant(uint64_t bits, int bytes) {
  if (bytes == 4) bits &= 0xffffffffu;
  const auto key = std::make_pair(bits, bytes);
  if (const auto it = constants_.find(key); it != constants_.end()) return it->second;
  const auto word = static_cast<uint32_t>(function_.constants.size()) * row_words;
  std::array<uint32_t, size_t{2} * row_words> words{};
  for (size_t i = 0; i < row_words; ++i) {
    if (bytes == 8) {
      std::memcpy(&words[2 * i], &bits, 8);
    } else {
      words[i] = static_cast<uint32_t>(bits);
    }
  }
  for (int chunk = 0; chunk < (bytes == 8 ? 2 : 1); ++chunk) {
    std::memcpy(function_.constants.emplace_back().words, words.data() + chunk * row_words, row_words * 4);
  }
  return constants_[key] = make_row(constant_row, word);
}

std::optional<Row> Decoder::special(std::string_view name) {
  for (const SpecialRow& each : specials) {
    if (each.name == name) return each.row;
  }
  return std::nullopt;
}

Row Decoder::clock(std::string_view name, int bytes) {
  Instruction in;
  in.d = temporary(bytes);
  in.run = bytes == 8 ? &read_clock<uint64_t> : &read_clock<uint32_t>;
  if (name != "%clock" && name != "%clock64" && name != "%clock_hi" && name != "%globaltimer") {
    fail("unknown special register '" + std::string(name) + "'");
  }
  before(in);
  return in.d;
}

Row Decoder::symbol_address(std::string_view name, int64_t offset, int bytes) {
  if (const auto depot = depots_.find(name); depot != depots_.end()) {
    Instruction in;
    in.d = temporary(bytes);
    in.offset = static_cast<int64_t>(depot->second) + offset;
    in.run = bytes == 8 ? &local_address<uint64_t> : &local_address<uint32_t>;
    before(in);
    return in.d;
  }
  if (const auto place = parameter(name)) {
    if (!place->of_kernel) fail("takes the address of the parameter '" + std::string(name) + "'");
    return constant(place->offset + static_cast<uint64_t>(offset), bytes);
  }
  const SharedVariable* shared = nullptr;
  for (const auto& own : function_.shared) {
    if (own->name == name) shared = own.get();
  }
  const Module& module = *function_.module;
  if (const auto it = module.shared.find(name); shared == nullptr && it != module.shared.end())
    shared = it->second.get();
  if (shared != nullptr) {
    const auto chunk = static_cast<uint32_t>(function_.constants.size());
    function_.constants.resize(chunk + (bytes == 8 ? 2 : 1));
    function_.shared_fixups.push_back({chunk, bytes == 8, shared, offset});
    return make_row(constant_row, chunk * row_words);
  }
  if (const auto it = module.globals.find(name); it != module.globals.end()) {
    if (bytes != 8) fail("address of '" + std::string(name) + "' in 32 bits");
    return constant(it->second.address + static_cast<uint64_t>(offset), 8);
  }
  fail("unknown name '" + std::string(name) + "'");
}

Row Decoder::converted(Row row, int from, int to) {
  if (from == to) return row;
  Instruction in;
  in.a = row;
  in.d = temporary(to);
  in.run = to == 4 ? &narrow : &widen<uint32_t>;
  before(in);
  return in.d;
}

Row Decoder::source(const RawOperand& operand, Type type) {
  const int bytes = storage_of(type);
  if (bytes == 0) return predicate(operand);
  if (operand.negated) fail("negated operand of an arithmetic instruction");
  if (operand.form == RawOperand::number) {
    if ((operand.is_double && type != Type::f64 && bytes != 8) || (operand.is_single && bytes == 8))
      fail("constant of another width");
    return constant(operand.bits, bytes);
  }
  if (operand.form != RawOperand::name) fail("operand of an unexpected form");
  if (const Register* known = find_register(operand.text)) {
    if (known->bytes == 0) fail("predicate where a value is expected");
    return converted(known->row, known->bytes, bytes);
  }
  if (operand.text == "WARP_SZ") return constant(warp_size, bytes);
  if (const auto row = special(operand.text)) return converted(*row, 4, bytes);
  if (operand.text[0] == '%') return clock(operand.text, bytes);
  return symbol_address(operand.text, operand.offset, bytes);
}

Row Decoder::destination(const RawOperand& operand, Type type) {
  const int bytes = storage_of(type);
  if (operand.form != RawOperand::name) fail("result of an unexpected form");
  if (operand.text == "_") return temporary(bytes);
  const Register* known = find_register(operand.text);
  if (known == nullptr) fail("unknown register '" + std::string(operand.text) + "'");
  const Row row = known->row;
  if (known->bytes == bytes) return row;
  if (known->bytes == 0 || bytes == 0) fail("register of another kind");
  Instruction in;
  in.a = temporary(bytes);
  in.d = row;
  in.run = bytes == 8 ? &narrow : is_signed(type) ? &widen<int32_t> : &widen<uint32_t>;
  after(in);
  return in.a;
}

Row Decoder::predicate(const RawOperand& operand) {
  if (operand.form == RawOperand::number) return constant(operand.bits != 0 ? ~0u : 0, 4);
  if (operand.text == "_") return temporary(0);
  const Register* known = find_register(operand.text);
  if (known == nullptr || known->bytes != 0) fail("'" + std::string(operand.text) + "' is no predicate");
  return known->row;
}

void Decoder::address(const RawOperand& operand, Instruction& in) {
  if (operand.form != RawOperand::memory) fail("expected an address");
  in.offset = operand.offset;
  in.wide_address = true;
  if (operand.text.empty()) {
    in.a = constant(operand.bits, 8);
  } else if (const Register* known = find_register(operand.text)) {
    in.a = known->row;
    in.wide_address = known->bytes == 8;
  } else {
    in.a = symbol_address(operand.text, 0, 8);
  }
}

}  // namespace cudasim
