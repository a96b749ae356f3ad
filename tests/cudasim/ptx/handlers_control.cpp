// Control flow, barriers of a block, and fences.
#include "ptx/handlers.h"

namespace cudasim {
namespace {

void decode_branch(Decoder& d, Instruction& in) {
  d.take("uni");
  in.kind = Kind::branch;
  d.target(d.operand(0), in);
}

void decode_branch_table(Decoder& d, Instruction& in) {
  d.require("idx");
  d.take("uni");
  in.kind = Kind::branch_table;
  in.a = d.source(0, Type::u32);
  d.branch_table(d.operand(1).text);
}

// call (result), name, (arguments): the names are of parameters that the caller wrote.
void decode_call(Decoder& d, Instruction& in) {
  d.take("uni");
  in.kind = Kind::call;
  size_t at = 0;
  Call call;
  const auto place_of = [&](const RawOperand& operand) {
    const auto place = d.parameter(operand.text);
    if (!place) d.fail("argument '" + std::string(operand.text) + "' is not a parameter");
    return *place;
  };
  if (d.operand(0).form == RawOperand::list) {
    if (d.operand(0).elements.size() != 1) d.fail("call with several results");
    const auto place = place_of(d.operand(0).elements[0]);
    call.result = place.offset;
    call.result_size = place.size;
    at = 1;
  }
  const RawOperand& name = d.operand(at++);
  if (name.text ==
      "__assertfail") {  // (message, file, line, function, size of a character), which never returns
    in.kind = Kind::trap;
    in.flags = failed_assertion;
    const RawOperand& arguments = d.operand(at);
    if (arguments.elements.size() != 5) d.fail("assertion of an unknown form");
    in.target = d.row_list({place_of(arguments.elements[0]).offset, place_of(arguments.elements[1]).offset,
                            place_of(arguments.elements[2]).offset});
    return;
  }
  call.callee = d.callee(name.text);
  const std::vector<Parameter>& parameters = call.callee->parameters;
  size_t given = 0;
  if (at < d.operand_count() && d.operand(at).form == RawOperand::list) {
    for (const RawOperand& argument : d.operand(at).elements) {
      const auto place = place_of(argument);
      if (given >= parameters.size() || place.size < parameters[given].size)
        d.fail("arguments do not fit the callee's");
      call.arguments.emplace_back(place.offset, static_cast<uint32_t>(given++));
    }
    ++at;
  }
  if (at < d.operand_count()) d.fail("call through a pointer");
  if (given != parameters.size()) d.fail("has too few arguments");
  in.target = static_cast<uint32_t>(d.function().calls.size());
  d.function().calls.push_back(std::move(call));
}

void decode_return(Decoder& d, Instruction& in) {
  d.take("uni");
  in.kind = d.function().entry ? Kind::exit : Kind::ret;
}

void decode_barrier(Decoder& d, Instruction& in) {
  if (d.take("warp")) {
    d.require("sync");
    in.kind = Kind::collective;
    in.e = d.source(0, Type::b32);
    in.run = [](Warp&, const Instruction&, uint32_t) {};
    in.flags = synchronises_memory;
    return;
  }
  d.take("cta");
  in.kind = Kind::barrier;
  in.b = no_row;
  size_t at = 0;
  if (d.take("arrive")) {
    in.flags = barrier_arrive;
  } else if (d.take("red")) {
    const std::string_view op = d.take_one_of({"popc", "and", "or"});
    in.flags = op == "popc" ? barrier_popc : op == "and" ? barrier_and : barrier_or;
    const Type type = d.take_type();
    in.d = type == Type::pred ? d.predicate(d.operand(at)) : d.destination(at, type);
    ++at;
  } else {
    d.require("sync");
    in.flags = barrier_sync;
  }
  d.take("aligned");
  in.a = d.source(at++, Type::u32);
  const bool reduces = in.flags >= barrier_popc;
  if (d.operand_count() > at + (reduces ? 1 : 0)) in.b = d.source(at++, Type::u32);
  if (reduces) {
    in.c = d.predicate(d.operand(at));
    if (d.operand(at).negated) in.flags |= barrier_negated;
  }
}

void fence(Warp& w, const Instruction&, uint32_t) { w.block->fence_pending = true; }
void nothing(Warp&, const Instruction&, uint32_t) {}

void decode_fence(Decoder& d, Instruction& in) {
  d.take_one_of({"sc", "acq_rel"});
  const std::string_view scope = d.take_one_of({"gl", "sys", "gpu", "cta"});
  if (scope.empty()) d.fail("fence of no known scope");
  in.run = scope == "cta" ? &nothing : &fence;
}

void decode_nanosleep(Decoder& d, Instruction& in) {
  d.take_type();
  d.source(0, Type::u32);
  in.run = &nothing;
}

void decode_trap(Decoder&, Instruction& in) { in.kind = Kind::trap; }

void decode_prefetch(Decoder& d, Instruction& in) {
  d.take_one_of({"global", "local"});
  d.take_one_of({"L1", "L2"});
  d.address(d.operand(0), in);
  in.run = &nothing;
}

}  // namespace

void add_control(DecodeTable& table) {
  table["bra"] = &decode_branch;
  table["brx"] = &decode_branch_table;
  table["call"] = &decode_call;
  table["ret"] = &decode_return;
  table["exit"] = [](Decoder&, Instruction& in) { in.kind = Kind::exit; };
  table["bar"] = &decode_barrier;
  table["barrier"] = &decode_barrier;
  table["membar"] = &decode_fence;
  table["fence"] = &decode_fence;
  table["nanosleep"] = &decode_nanosleep;
  table["trap"] = &decode_trap;
  table["prefetch"] = &decode_prefetch;
}

}  // namespace cudasim
