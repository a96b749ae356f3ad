// What a warp's lanes do together: shfl, vote, match, activemask.
#include "ptx/handlers.h"

namespace cudasim {
namespace {

enum class Direction : uint32_t { up, down, butterfly, index };

void shuffle(Warp& w, const Instruction& in, uint32_t lanes) {
  const auto *a = w.row<const uint32_t>(in.a), *b = w.row<const uint32_t>(in.b),
             *c = w.row<const uint32_t>(in.c);
  uint32_t values[warp_size];
  uint32_t within = 0;
  for_lanes(lanes, [&](int i) {
    const uint32_t lane = static_cast<uint32_t>(i), clamp = c[i] & 31, segment = c[i] >> 8 & 31,
                   by = b[i] & 31;
    const uint32_t last = (lane & segment) | (clamp & ~segment), first = lane & segment;
    uint32_t from = lane;
    bool inside = false;
    switch (static_cast<Direction>(in.flags)) {
      case Direction::up:
        inside = static_cast<int>(lane) - static_cast<int>(by) >= static_cast<int>(last);
        from = lane - by;
        break;
      case Direction::down:
        from = lane + by;
        inside = from <= last;
        break;
      case Direction::butterfly:
        from = lane ^ by;
        inside = from <= last;
        break;
      case Direction::index:
        from = first | (by & ~segment);
        inside = from <= last;
        break;
    }
    if (!inside) from = lane;
    if ((lanes >> from & 1) == 0) {
      w.report("warp collective",
               "shuffle reads from lane " + std::to_string(from) + ", which does not take part", lane,
               cudaErrorLaunchFailure);
      from = lane;
    }
    within |= uint32_t{inside} << lane;
    values[i] = a[from];
  });
  auto* d = w.row<uint32_t>(in.d);
  for_lanes(lanes, [&](int i) { d[i] = values[i]; });
  if (in.d2 != no_row) {
    auto* p = w.row<uint32_t>(in.d2);
    *p = (*p & ~lanes) | within;
  }
}

void decode_shuffle(Decoder& d, Instruction& in) {
  d.require("sync");
  const std::string_view how = d.take_one_of({"up", "down", "bfly", "idx"});
  if (how.empty()) d.fail("shuffle of no known direction");
  in.flags = static_cast<uint32_t>(how == "up"     ? Direction::up
                                   : how == "down" ? Direction::down
                                   : how == "bfly" ? Direction::butterfly
                                                   : Direction::index);
  const Type type = d.take_type();
  if (size_of(type) != 4) d.fail("shuffle of this type");
  const RawOperand& to = d.operand(0);
  in.d = d.destination(to, type);
  if (!to.elements.empty()) in.d2 = d.predicate(to.elements[0]);
  in.a = d.source(1, type);
  in.b = d.source(2, Type::u32);
  in.c = d.source(3, Type::u32);
  in.e = d.source(4, Type::b32);
  in.kind = Kind::collective;
  in.run = &shuffle;
}

enum class Vote : uint32_t { all, any, uniform, ballot };

void vote(Warp& w, const Instruction& in, uint32_t lanes) {
  uint32_t a = *w.row<uint32_t>(in.a);
  if ((in.flags & 256) != 0) a = ~a;
  const uint32_t yes = a & lanes;
  const auto how = static_cast<Vote>(in.flags & 255);
  if (how == Vote::ballot) {
    auto* d = w.row<uint32_t>(in.d);
    for_lanes(lanes, [&](int i) { d[i] = yes; });
    return;
  }
  const bool result = how == Vote::all   ? yes == lanes
                      : how == Vote::any ? yes != 0
                                         : yes == 0 || yes == lanes;
  auto* d = w.row<uint32_t>(in.d);
  *d = (*d & ~lanes) | (result ? lanes : 0);
}

void decode_vote(Decoder& d, Instruction& in) {
  d.require("sync");
  const std::string_view how = d.take_one_of({"all", "any", "uni", "ballot"});
  if (how.empty()) d.fail("vote of no known kind");
  const Type type = d.take_type();
  in.flags = static_cast<uint32_t>(how == "all"   ? Vote::all
                                   : how == "any" ? Vote::any
                                   : how == "uni" ? Vote::uniform
                                                  : Vote::ballot);
  in.d = type == Type::pred ? d.predicate(d.operand(0)) : d.destination(0, type);
  in.a = d.predicate(d.operand(1));
  if (d.operand(1).negated) in.flags |= 256;
  in.e = d.source(2, Type::b32);
  in.kind = Kind::collective;
  in.run = &vote;
}

template <class T, bool all> void match(Warp& w, const Instruction& in, uint32_t lanes) {
  const auto* a = w.row<const T>(in.a);
  uint32_t results[warp_size];
  for_lanes(lanes, [&](int i) {
    uint32_t equal = 0;
    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
      const int k = std::countr_zero(rest);
      equal |= uint32_t{a[k] == a[i]} << k;
    }
    results[i] = all && equal != lanes ? 0 : equal;
  });
  auto* d = w.row<uint32_t>(in.d);
  uint32_t whole = 0;
  for_lanes(lanes, [&](int i) {
    d[i] = results[i];
    whole |= uint32_t{results[i] != 0} << i;
  });
  if (in.d2 != no_row) {
    auto* p = w.row<uint32_t>(in.d2);
    *p = (*p & ~lanes) | whole;
  }
}

void decode_match(Decoder& d, Instruction& in) {
  const bool all = d.take("all");
  if (!all) d.require("any");
  d.require("sync");
  const Type type = d.take_type();
  const RawOperand& to = d.operand(0);
  in.d = d.destination(to, Type::b32);
  if (!to.elements.empty()) in.d2 = d.predicate(to.elements[0]);
  in.a = d.source(1, type);
  in.e = d.source(2, Type::b32);
  in.kind = Kind::collective;
  if (size_of(type) == 8) {
    in.run = all ? &match<uint64_t, true> : &match<uint64_t, false>;
  } else {
    in.run = all ? &match<uint32_t, true> : &match<uint32_t, false>;
  }
}

// The lanes that run together just now: in random order, any subset of those that might.
void active_mask(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<uint32_t>(in.d);
  for_lanes(lanes, [&](int i) { d[i] = lanes; });
}

void decode_active_mask(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  in.d = d.destination(0, type);
  in.run = &active_mask;
}

}  // namespace

void add_collective(DecodeTable& table) {
  table["shfl"] = &decode_shuffle;
  table["vote"] = &decode_vote;
  table["match"] = &decode_match;
  table["activemask"] = &decode_active_mask;
}

}  // namespace cudasim
