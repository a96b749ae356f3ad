// cp.async: copies from global to shared memory that a thread starts, and that are there once it has waited
// for them. Until then the bytes count as never written: a wait that is missing is a read of uninitialised
// memory, and for other threads a barrier has to follow, as behind any write. What is written there in the
// meantime is a race, and no thread may exit before its copies are there.
#include "memory/access_checker.h"
#include "ptx/handlers.h"

namespace cudasim {
namespace {

Region& region_of(Warp& w, const Instruction& in, uint32_t lane, uint64_t offset, uint32_t bytes) {
  for (Region& each : w.launch->shared)
    if (each.holds(offset, bytes)) return each;
  return locate_shared(w, in, lane, offset, bytes, Access::write);
}

void copy(Warp& w, const Instruction& in, uint32_t lanes) {
  uint64_t sources[warp_size], targets[warp_size];
  w.addresses(in, targets);
  const auto* from = w.row<const uint64_t>(in.b);
  const auto* given = in.c == no_row ? nullptr : w.row<const uint32_t>(in.c);
  uint32_t reading = 0;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<uint32_t>(std::countr_zero(rest));
    AsyncCopy copy;
    copy.group = w.async_groups[lane];
    copy.bytes = in.bytes;
    copy.offset = targets[lane] &= ~window_mask;
    const uint32_t bytes = given == nullptr ? in.bytes : given[lane];  // the others become 0
    if (bytes > in.bytes)
      w.abort("out of bounds",
              "cp.async of " + std::to_string(bytes) + " bytes to " + std::to_string(in.bytes), lane,
              cudaErrorIllegalAddress);
    if ((from[lane] & (in.bytes - 1)) != 0) misaligned(w, lane, from[lane], in.bytes, Access::read);
    if (bytes != 0) {
      const uint64_t source = from[lane] + static_cast<uint64_t>(in.second_offset);
      reading |= 1u << lane;
      sources[lane] = source;
      // A part is read in pieces that are powers of two.
      for (uint32_t at = 0, size = in.bytes; at < bytes; at += size) {
        while (size > bytes - at) size /= 2;
        std::memcpy(copy.data + at, global_bytes<Access::read>(w, in, lane, source + at, size), size);
      }
    }
    // What others still read there without a barrier in between is a race as soon as the copy begins.
    shared_bytes<Access::write>(w, in, lane, copy.offset, in.bytes);
    Region& region = region_of(w, in, lane, copy.offset, in.bytes);
    region.shadow.mark(copy.offset - region.begin, in.bytes, false);
    w.async_copies[lane].push_back(copy);
  }
  if (reading != 0) count_global(w, sources, reading, in.bytes, Access::read);
  count_shared(w, targets, lanes, in.bytes);
}

// What was started before the last `left` groups arrives; all of it where `in.flags`.
void wait(Warp& w, const Instruction& in, uint32_t lanes) {
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<uint32_t>(std::countr_zero(rest));
    auto& copies = w.async_copies[lane];
    const uint64_t groups = w.async_groups[lane], left = static_cast<uint64_t>(in.offset);
    const auto arrives = [&](const AsyncCopy& copy) { return in.flags != 0 || copy.group + left < groups; };
    for (const AsyncCopy& copy : copies) {
      if (!arrives(copy)) continue;
      const Region& region = region_of(w, in, lane, copy.offset, copy.bytes);
      if (!region.shadow.none_initialised(copy.offset - region.begin, copy.bytes))
        w.report("race", "cp.async arrives where something was written after it was started", lane,
                 cudaErrorLaunchFailure);
      std::memcpy(shared_bytes<Access::write>(w, in, lane, copy.offset, copy.bytes), copy.data, copy.bytes);
    }
    std::erase_if(copies, arrives);
  }
}

void commit(Warp& w, const Instruction&, uint32_t lanes) {
  for_lanes(lanes, [&](int lane) { ++w.async_groups[lane]; });
}

void decode_copy(Decoder& d, Instruction& in) {
  d.require("async");
  if (d.take("commit_group")) {
    in.run = &commit;
    return;
  }
  const bool all = d.take("wait_all");
  if (all || d.take("wait_group")) {
    in.flags = all ? 1 : 0;
    if (!all) {
      if (d.operand(0).form != RawOperand::number) d.fail("a number of groups that is not constant");
      in.offset = static_cast<int64_t>(d.operand(0).bits);
    }
    in.kind = Kind::memory;
    in.run = &wait;
    return;
  }
  const bool only_second_cache = d.take("cg");
  if (!only_second_cache) d.require("ca");
  if (!d.take("shared")) d.require("shared::cta");
  d.require("global");
  d.take_one_of({"L2::64B", "L2::128B", "L2::256B"});
  if (d.operand(2).form != RawOperand::number) d.fail("a size that is not constant");
  const uint64_t bytes = d.operand(2).bits;
  if (bytes != 16 && (only_second_cache || (bytes != 4 && bytes != 8))) d.fail("copy of this size");
  in.bytes = static_cast<uint8_t>(bytes);
  Instruction source;
  d.address(d.operand(1), source);
  if (!source.wide_address) d.fail("source of 32 bits");
  in.b = source.a, in.second_offset = source.offset;
  d.address(d.operand(0), in);
  if (d.operand_count() > 3) in.c = d.source(3, Type::u32);
  in.kind = Kind::memory;
  in.run = &copy;
}

}  // namespace

void add_async(DecodeTable& table) { table["cp"] = &decode_copy; }

}  // namespace cudasim
