// `tandem bench ops`: every op with its rate beside what this machine can do, the farthest from it first. By
// the fastest of the runs: what others do on the machine only adds.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "autograd/engine.h"
#include "autograd/error.h"
#include "autograd/registry.h"
#include "ops/ops.h"
#include "tools/bench/workloads.h"
#include "tools/tandem/bench.h"

namespace tandem::command {
namespace {

// The rates of a copy and of a product here.
struct Ceilings {
  double bytes, flops;
  double seconds(const Work& work) const { return std::max(work.bytes / bytes, work.flops / flops); }
};

Ceilings ceilings_of(Bench& bench, int64_t rows) {
  Bench::header("ceilings of ops");
  const Tensor from = bench::normal({rows, 1024}, 1), to = empty_like(from);
  const Tensor a = bench::normal({rows, 256}, 1), b = bench::normal({256, 1024}, 2),
               square = bench::normal({1024, 1024}, 3);
  const auto rate = [](double amount, const Measurement& m) { return amount / m.low; };
  const double bytes = 2.0 * from.numel() * sizeof(float), wide = 2.0 * rows * 256 * 1024,
               cube = 2.0 * (1 << 30);
  const Measurement copied =
      bench.measure(fmt::format("copy of [{},1024]", rows), {bytes}, [&] { plain_copy(from, to); });
  const Measurement product =
      bench.measure(fmt::format("[{},256] @ [256,1024]", rows), {0, wide}, [&] { matmul(a, b); });
  const Measurement squares =
      bench.measure("[1024,1024] @ [1024,1024]", {0, cube}, [&] { matmul(square, square); });
  return {rate(bytes, copied), std::max(rate(wide, product), rate(cube, squares))};
}

double bytes_of(const Tensor& x) {
  return x.defined() ? static_cast<double>(x.passes() * x.numel() * size_of(x.dtype())) : 0;
}

// A sample's tensor with more rows and columns: numbers picked from its own, which are where the op is
// defined. None where the shape does not follow from that of the first, [a, b].
std::optional<Tensor> enlarged(const Tensor& x, const Shape& first, int64_t rows, uint64_t seed) {
  if (!x.defined() || !is_floating(x.dtype()) || x.passes() != 1 || x.numel() == 0) return {};
  Shape shape;
  for (int64_t d = 0; d < x.dim(); ++d) {
    const int64_t from_end = x.dim() - d, size = x.size(d);
    if (size != 1 && (from_end > first.size() || size != first[first.size() - from_end])) return {};
    shape.push_back(size == 1 ? 1 : from_end == 1 ? 1024 : rows);
  }
  const Tensor values = x.reshape({-1});
  if (x.numel() == 1) return values.reshape(shape);
  const int64_t most = std::min<int64_t>(shape.numel(), 1 << 20), copies = (shape.numel() + most - 1) / most;
  const Tensor picked = index_select(values, 0, bench::integers({most}, seed, 0, values.numel()));
  return picked.expand({copies, most}).reshape({copies * most}).slice(0, 0, shape.numel()).reshape(shape);
}

// Whether it is another view of the first input's memory: nothing was computed.
bool is_view(const Tensor& y, const Tensor& x) {
  if (y.dtype() != x.dtype() || y.dtype() != DType::f32 || y.numel() == 0) return false;
  const float* at = y.data<float>();
  return at >= x.data<float>() && at < x.data<float>() + x.passes() * x.numel();
}

// The op at [rows, 1024] as in the first of its samples that can be enlarged; none: why not.
std::optional<OpCall> call_of(const OpInfo& op, int64_t rows, std::string& why) {
  why = "no sample with rows and columns";
  SampleMaker make(1, DType::f32, nn::InitScope::current().device);
  for (const Sample& sample : op.samples(make)) {
    if (sample.inputs.empty() || sample.inputs[0].dim() != 2) continue;
    Tensors inputs;
    for (const Tensor& x : sample.inputs)
      if (const auto large = enlarged(x, sample.inputs[0].shape(), rows, inputs.size() + 1))
        inputs.push_back(*large);
    if (inputs.size() != sample.inputs.size()) continue;
    try {
      const Tensor y = sample.function(inputs);
      if (y.numel() == 0) continue;
      if (is_view(y, inputs[0])) {
        why = "a view";
        continue;
      }
      return OpCall{op.name, "", [=] { return inputs; }, sample.function};
    } catch (const Error&) {  // of this size alone: a label, a mask
    }
  }
  return {};
}

// A row of the table.
struct Row {
  std::string op;
  Measurement measured;
  double floor;  // seconds that its bytes or products take at the ceilings
  double distance() const { return measured.low / floor; }
};

// Forward, and backward where it has one. The bytes are those of all inputs, outputs and gradients once.
void measure(const Bench& bench, const OpCall& call, const Ceilings& ceilings, std::vector<Row>& rows) {
  const Tensors inputs = call.inputs();
  double input_bytes = 0, gradient_bytes = 0;
  for (const Tensor& x : inputs) input_bytes += bytes_of(x);
  bool differentiable = find_op(call.op).differentiable;
  for (const Tensor& x : inputs) {
    if (!differentiable || !is_floating(x.dtype())) continue;
    x.requires_grad_();
    gradient_bytes += bytes_of(x);
  }
  Tensor y = call.function(inputs);
  differentiable = differentiable && y.requires_grad();
  const double output_bytes = bytes_of(y);
  const Tensor cotangent =
      differentiable ? stack_passes(Tensors(y.passes(), bench::normal(y.shape(), 9))) : Tensor();
  const auto forward = [&] { y = call.function(inputs); };
  const auto backward = [&] { y.backward(cotangent); };
  const auto clear = [&] {
    for (const Tensor& x : inputs)
      if (differentiable) x.grad() = Tensor();
  };
  const auto row = [&](const char* way, Work work, const auto& prepare, const auto& run) {
    const std::string name = fmt::format("{} {}{}{}", call.op, to_string(inputs[0].shape()),
                                         call.label.empty() ? "" : ", " + call.label, way);
    rows.push_back({call.op, bench.time(name, work, prepare, run), ceilings.seconds(work)});
  };
  const Work there{input_bytes + output_bytes, call.flops},
      back{output_bytes + gradient_bytes, call.backward_flops};
  if (call.both) {
    row(", both", {input_bytes + gradient_bytes, call.flops}, clear, [&] { forward(), backward(); });
    return;
  }
  row("", there, clear, forward);
  if (differentiable)
    row(
        ", backward", back, [&] { clear(), forward(); }, backward);
}

void print(const Row& row, const Ceilings& ceilings) {
  const Measurement& m = row.measured;
  const bool products = m.work.flops / ceilings.flops > m.work.bytes / ceilings.bytes;
  const double rate = (products ? m.work.flops : m.work.bytes) / m.low / 1e9;
  fmt::print("{:<58} {:>10.3f} {:>10.3f} {:>9.1f} {:<7} {:>8.2f}\n", m.name, m.low * 1e3, row.floor * 1e3,
             rate, products ? "GFLOP/s" : "GB/s", row.distance());
}

}  // namespace

void bench_ops(Bench& bench, int64_t rows) {
  const Ceilings ceilings = ceilings_of(bench, rows);
  const std::vector<OpCall> given = op_calls(rows);
  std::vector<Row> table;
  std::vector<std::string> left_out;
  for (const OpInfo& op : registered_ops()) {
    bool found = false;
    for (const OpCall& call : given) {
      if (call.op != op.name) continue;
      measure(bench, call, ceilings, table);
      found = true;
    }
    std::string why;
    if (found) continue;
    if (const auto call = call_of(op, rows, why)) {
      measure(bench, *call, ceilings, table);
      continue;
    }
    left_out.push_back(fmt::format("{} ({})", op.name, why));
    bench.add({{"op", op.name}, {"left_out", why}});
  }
  std::sort(table.begin(), table.end(),
            [](const Row& a, const Row& b) { return a.distance() > b.distance(); });
  fmt::print(
      "\nops, f32, the farthest from the ceilings first; floor: each input, output and gradient once\n"
      "{:<58} {:>10} {:>10} {:>9} {:<7} {:>8}\n",
      "", "least ms", "floor ms", "rate", "", "/ floor");
  for (const Row& row : table) {
    print(row, ceilings);
    bench.add({{"op", row.op},
               {"name", row.measured.name},
               {"median_s", row.measured.median},
               {"min_s", row.measured.low},
               {"max_s", row.measured.high},
               {"bytes", row.measured.work.bytes},
               {"flops", row.measured.work.flops},
               {"floor_s", row.floor},
               {"over_floor", row.distance()}});
  }
  fmt::print("not measured: {}\n", fmt::join(left_out, ", "));
}

}  // namespace tandem::command
