// Loads and stores in every state space.
#include "memory/access_checker.h"
#include "ptx/handlers.h"

namespace cudasim {
namespace {

// Registers of one access: a vector's elements are rows of a list.
struct Registers {
  const Row* rows;
  Row single;
  Row operator[](int k) const { return rows == nullptr ? single : rows[k]; }
};
Registers registers(const Warp& w, const Instruction& in, Row single) {
  return {in.elements == 1 ? nullptr : w.current.function->row_lists.data() + in.target, single};
}

// Moves one lane's elements between memory and registers.
template <class T, bool store>
inline void transfer(Warp& w, const Registers& r, int elements, int lane, std::byte* bytes) {
  for (int k = 0; k < elements; ++k) {
    auto* row = w.row<Stored<T>>(r[k]);
    if constexpr (store) {
      const T value = static_cast<T>(row[lane]);
      std::memcpy(bytes + k * sizeof(T), &value, sizeof(T));
    } else {
      T value;
      std::memcpy(&value, bytes + k * sizeof(T), sizeof(T));
      row[lane] = to_stored(value);
    }
  }
}

template <bool store> constexpr Access access_of = store ? Access::write : Access::read;

template <class T, bool store> void global(Warp& w, const Instruction& in, uint32_t lanes) {
  uint64_t addresses[warp_size];
  w.addresses(in, addresses);
  const Registers r = registers(w, in, in.d);
  const uint32_t bytes = sizeof(T) * in.elements;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int i = std::countr_zero(rest);
    std::byte* at = global_bytes<access_of<store>>(w, in, static_cast<uint32_t>(i), addresses[i], bytes);
    transfer<T, store>(w, r, in.elements, i, at);
  }
  count_global(w, addresses, lanes, bytes, access_of<store>);
}

template <class T, bool store> void shared(Warp& w, const Instruction& in, uint32_t lanes) {
  uint64_t addresses[warp_size];
  w.addresses(in, addresses);
  const Registers r = registers(w, in, in.d);
  const uint32_t bytes = sizeof(T) * in.elements;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int i = std::countr_zero(rest);
    addresses[i] &= ~window_mask;
    std::byte* at = shared_bytes<access_of<store>>(w, in, static_cast<uint32_t>(i), addresses[i], bytes);
    transfer<T, store>(w, r, in.elements, i, at);
  }
  count_shared(w, addresses, lanes, bytes);
}

template <class T, bool store> void local(Warp& w, const Instruction& in, uint32_t lanes) {
  uint64_t addresses[warp_size];
  w.addresses(in, addresses);
  const Registers r = registers(w, in, in.d);
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int i = std::countr_zero(rest);
    std::byte* at =
        w.local_byte(static_cast<uint32_t>(i), addresses[i] & ~window_mask, sizeof(T) * in.elements);
    transfer<T, store>(w, r, in.elements, i, at);
  }
}

template <class T, bool store> void kernel_parameter(Warp& w, const Instruction& in, uint32_t lanes) {
  uint64_t addresses[warp_size];
  w.addresses(in, addresses);
  const Registers r = registers(w, in, in.d);
  std::vector<std::byte>& parameters = w.launch->parameters;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int i = std::countr_zero(rest);
    const uint64_t at = addresses[i] & ~window_mask;
    if (store || at + sizeof(T) * in.elements > parameters.size()) {
      w.abort("out of bounds",
              store ? "write to the kernel's parameters" : "read behind the kernel's parameters",
              static_cast<uint32_t>(i), cudaErrorIllegalAddress);
    }
    transfer<T, false>(w, r, in.elements, i, parameters.data() + at);
  }
}

// Parameters of calls, and those of a function that is not a kernel: bytes of each lane in the frame.
template <class T, bool store> void call_parameter(Warp& w, const Instruction& in, uint32_t lanes) {
  const Registers r = registers(w, in, in.d);
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int i = std::countr_zero(rest);
    transfer<T, store>(w, r, in.elements, i, w.parameter_area(static_cast<uint32_t>(i)) + in.offset);
  }
}

// A generic address may be in any space, in each lane another one.
template <class T, bool store> void generic(Warp& w, const Instruction& in, uint32_t lanes) {
  uint64_t addresses[warp_size];
  w.addresses(in, addresses);
  uint32_t left = lanes;
  const auto in_window = [&](uint64_t window) {
    uint32_t result = 0;
    for (uint32_t rest = left; rest != 0; rest &= rest - 1) {
      const int i = std::countr_zero(rest);
      result |= uint32_t{(addresses[i] & window_mask) == window} << i;
    }
    left &= ~result;
    return result;
  };
  if (const uint32_t m = in_window(0); m != 0) global<T, store>(w, in, m);
  if (left == 0) return;
  if (const uint32_t m = in_window(shared_window); m != 0) shared<T, store>(w, in, m);
  if (const uint32_t m = in_window(local_window); m != 0) local<T, store>(w, in, m);
  if (const uint32_t m = in_window(param_window); m != 0) kernel_parameter<T, store>(w, in, m);
  if (left != 0) {
    const auto lane = static_cast<uint32_t>(std::countr_zero(left));
    w.abort("out of bounds", "access to an address of no memory", lane, cudaErrorIllegalAddress);
  }
}

template <class T, bool store> Handler for_space(Space space) {
  switch (space) {
    case Space::global:
      return &global<T, store>;
    case Space::shared:
      return &shared<T, store>;
    case Space::local:
      return &local<T, store>;
    case Space::constant:
      return &global<T, store>;
    case Space::param:
      return &call_parameter<T, store>;
    case Space::generic:
      break;
  }
  return &generic<T, store>;
}

template <bool store> Handler for_type(Type type, Space space) {
  switch (type) {
    case Type::u8:
    case Type::b8:
      return for_space<uint8_t, store>(space);
    case Type::s8:
      return store ? for_space<uint8_t, store>(space) : for_space<int8_t, store>(space);
    case Type::u16:
    case Type::b16:
    case Type::f16:
      return for_space<uint16_t, store>(space);
    case Type::s16:
      return store ? for_space<uint16_t, store>(space) : for_space<int16_t, store>(space);
    default:
      return size_of(type) == 8 ? for_space<uint64_t, store>(space) : for_space<uint32_t, store>(space);
  }
}

template <bool store> Handler kernel_parameter_of(Type type) {
  switch (type) {
    case Type::u8:
    case Type::b8:
      return &kernel_parameter<uint8_t, store>;
    case Type::s8:
      return &kernel_parameter<int8_t, store>;
    case Type::u16:
    case Type::b16:
    case Type::f16:
      return &kernel_parameter<uint16_t, store>;
    case Type::s16:
      return &kernel_parameter<int16_t, store>;
    default:
      return size_of(type) == 8 ? &kernel_parameter<uint64_t, store> : &kernel_parameter<uint32_t, store>;
  }
}

template <bool store> void decode_access(Decoder& d, Instruction& in) {
  // Orders and hints about caches change nothing here: accesses happen one after another, at once.
  d.take("weak");
  if (!d.take_one_of({"volatile", "relaxed", "acquire", "release", "mmio"}).empty()) in.flags = strong_access;
  d.take_one_of({"cta", "gpu", "sys", "cluster"});
  in.space = take_space(d);
  d.take("nc");
  d.take_one_of({"ca", "cg", "cs", "cv", "lu", "wb", "wt"});
  d.take_one_of(
      {"L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last", "L1::no_allocate"});
  d.take_one_of({"L2::64B", "L2::128B", "L2::256B"});
  const std::string_view vector = d.take_one_of({"v2", "v4"});
  in.elements = vector == "v2" ? 2 : vector == "v4" ? 4 : 1;
  const Type type = d.take_type();
  in.bytes = static_cast<uint8_t>(size_of(type));
  in.kind = Kind::memory;

  const RawOperand& memory = d.operand(store ? 0 : 1);
  const RawOperand& value = d.operand(store ? 1 : 0);
  if (in.elements == 1) {
    in.d = store ? d.source(value, type) : d.destination(value, type);
  } else {
    if (value.form != RawOperand::vector || value.elements.size() != in.elements)
      d.fail("vector of another length");
    std::vector<Row> rows;
    for (const RawOperand& element : value.elements)
      rows.push_back(store ? d.source(element, type) : d.destination(element, type));
    in.target = d.row_list(rows);
  }
  in.run = for_type<store>(type, in.space);
  const auto place = memory.form == RawOperand::memory ? d.parameter(memory.text) : std::nullopt;
  if (in.space == Space::param && place && !place->of_kernel) {
    in.offset = place->offset + memory.offset;
    in.kind = Kind::plain;
    if (memory.offset < 0 || memory.offset + in.bytes * in.elements > static_cast<int64_t>(place->size))
      d.fail("access behind the parameter");
    return;
  }
  if (in.space == Space::param) in.run = kernel_parameter_of<store>(type);
  d.address(memory, in);
}

}  // namespace

Space take_space(Decoder& d) {
  const std::string_view space = d.take_one_of(
      {"global", "shared", "shared::cta", "local", "param", "param::entry", "param::func", "const"});
  if (space == "global") return Space::global;
  if (space == "shared" || space == "shared::cta") return Space::shared;
  if (space == "local") return Space::local;
  if (space.starts_with("param")) return Space::param;
  if (space == "const") return Space::constant;
  return Space::generic;
}

void add_memory(DecodeTable& table) {
  table["ld"] = &decode_access<false>;
  table["ldu"] = &decode_access<false>;
  table["st"] = &decode_access<true>;
}

}  // namespace cudasim
