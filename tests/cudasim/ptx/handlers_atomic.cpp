// atom and red: one lane after another, in any order.
#include "memory/access_checker.h"
#include "ptx/handlers.h"

namespace cudasim {
namespace {

struct Add {
  template <class T> T operator()(T old, T b, T) const { return static_cast<T>(old + b); }
};
struct Min {
  template <class T> T operator()(T old, T b, T) const { return b < old ? b : old; }
};
struct Max {
  template <class T> T operator()(T old, T b, T) const { return b > old ? b : old; }
};
struct And {
  template <class T> T operator()(T old, T b, T) const { return old & b; }
};
struct Or {
  template <class T> T operator()(T old, T b, T) const { return old | b; }
};
struct Xor {
  template <class T> T operator()(T old, T b, T) const { return old ^ b; }
};
struct Exchange {
  template <class T> T operator()(T, T b, T) const { return b; }
};
struct Increment {
  template <class T> T operator()(T old, T b, T) const { return old >= b ? T{0} : static_cast<T>(old + 1); }
};
struct Decrement {
  template <class T> T operator()(T old, T b, T) const {
    return old == 0 || old > b ? b : static_cast<T>(old - 1);
  }
};
struct CompareAndSwap {
  template <class T> T operator()(T old, T b, T c) const { return old == b ? c : old; }
};

// An atomic publishes what a fence before it made visible, and sees what others published.
void communicate(Warp& w) {
  Block& block = *w.block;
  Launch& launch = *w.launch;
  if (launch.any_release) block.acquired = true;
  if (!block.fence_pending) return;
  if (launch.released.empty()) launch.released.resize(size_t{launch.grid.x} * launch.grid.y * launch.grid.z);
  launch.released[block.index] = block.epoch;
  launch.any_release = true;
  block.acquired = true;
}

template <class T, class Op> void atomic(Warp& w, const Instruction& in, uint32_t lanes) {
  uint64_t addresses[warp_size];
  w.addresses(in, addresses);
  const auto* b = w.row<const Stored<T>>(in.b);
  const auto* c = in.c == no_row ? b : w.row<const Stored<T>>(in.c);
  auto* d = in.d == no_row ? nullptr : w.row<Stored<T>>(in.d);
  uint32_t in_global = 0, in_shared = 0;
  const auto one = [&](int i) {
    const auto lane = static_cast<uint32_t>(i);
    std::byte* at;
    if (in.space == Space::shared || (addresses[i] & window_mask) == shared_window) {
      addresses[i] &= ~window_mask;
      in_shared |= 1u << i;
      at = shared_bytes<Access::atomic>(w, in, lane, addresses[i], sizeof(T));
    } else {
      in_global |= 1u << i;
      at = global_bytes<Access::atomic>(w, in, lane, addresses[i], sizeof(T));
    }
    T old;
    std::memcpy(&old, at, sizeof old);
    const T result = Op{}(old, static_cast<T>(b[i]), static_cast<T>(c[i]));
    std::memcpy(at, &result, sizeof result);
    if (d != nullptr) d[i] = to_stored(old);
  };
  if (w.launch->order == Order::forward) {
    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) one(std::countr_zero(rest));
  } else if (w.launch->order == Order::reverse) {
    for (uint32_t rest = lanes; rest != 0;) {
      const int i = 31 - std::countl_zero(rest);
      rest &= ~(1u << i);
      one(i);
    }
  } else {
    const auto first = static_cast<int>(w.launch->random() & 31);
    for (int k = 0; k < warp_size; ++k) {
      if ((lanes >> ((first + k) & 31) & 1) != 0) one((first + k) & 31);
    }
  }
  if (in_global != 0) {
    count_global(w, addresses, in_global, sizeof(T), Access::atomic);
    communicate(w);
  }
  if (in_shared != 0) count_shared(w, addresses, in_shared, sizeof(T));
}

template <class T> Handler integer_operation(std::string_view op) {
  using U = std::make_unsigned_t<T>;
  if (op == "add") return &atomic<U, Add>;
  if (op == "min") return &atomic<T, Min>;
  if (op == "max") return &atomic<T, Max>;
  if (op == "and") return &atomic<U, And>;
  if (op == "or") return &atomic<U, Or>;
  if (op == "xor") return &atomic<U, Xor>;
  if (op == "exch") return &atomic<U, Exchange>;
  if (op == "inc") return &atomic<U, Increment>;
  if (op == "dec") return &atomic<U, Decrement>;
  if (op == "cas") return &atomic<U, CompareAndSwap>;
  return nullptr;
}

Handler choose(std::string_view op, Type type) {
  switch (type) {
    case Type::f32:
      return op == "add" ? &atomic<float, Add> : nullptr;
    case Type::f64:
      return op == "add" ? &atomic<double, Add> : nullptr;
    case Type::u16:
    case Type::b16:
      return op == "cas" ? &atomic<uint16_t, CompareAndSwap> : nullptr;
    case Type::u32:
    case Type::b32:
      return integer_operation<uint32_t>(op);
    case Type::s32:
      return integer_operation<int32_t>(op);
    case Type::u64:
    case Type::b64:
      return integer_operation<uint64_t>(op);
    case Type::s64:
      return integer_operation<int64_t>(op);
    default:
      return nullptr;
  }
}

void decode_atomic(Decoder& d, Instruction& in, bool with_result) {
  d.take_one_of({"relaxed", "acquire", "release", "acq_rel"});
  d.take_one_of({"cta", "gpu", "sys", "cluster"});
  in.space = take_space(d);
  const std::string_view op =
      d.take_one_of({"add", "min", "max", "and", "or", "xor", "exch", "inc", "dec", "cas"});
  d.take("noftz");
  const Type type = d.take_type();
  in.run = choose(op, type);
  if (in.run == nullptr) d.fail("no atomic operation of this kind and type");
  in.kind = Kind::memory;
  in.bytes = static_cast<uint8_t>(size_of(type));
  in.flops = is_float(type) ? 1 : 0;
  size_t at = 0;
  if (with_result) in.d = d.destination(at++, type);
  d.address(d.operand(at++), in);
  in.b = d.source(at++, type);
  if (op == "cas") in.c = d.source(at, type);
}

}  // namespace

void add_atomic(DecodeTable& table) {
  table["atom"] = [](Decoder& d, Instruction& in) { decode_atomic(d, in, true); };
  table["red"] = [](Decoder& d, Instruction& in) { decode_atomic(d, in, false); };
}

}  // namespace cudasim
