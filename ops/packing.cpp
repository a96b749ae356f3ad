// pack_padded: row r of the result is position p of sample s, as the rows say; pad_packed puts it back there.
// Both are linear, each the other's transpose.
#include "ops/packing.h"

#include <cstring>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/tensor_impl.h"
#include "ops/indexing.h"
#include "ops/join.h"
#include "ops/loops/rows.h"

namespace tandem {
namespace {

// Calls body(pass, sample, bytes of one position) for all of them.
template <class Body> void for_each_sample(const Tensor& packed, const PackedRows& rows, Body body) {
  int64_t width = 1;
  for (int d = 1; d < packed.dim(); ++d) width *= packed.shape()[d];
  detail::for_each_row(packed.passes() * rows.samples(), rows.positions() * width, [&](int64_t task) {
    body(task / rows.samples(), task % rows.samples(), width * size_of(packed.dtype()));
  });
}

char* bytes_of(const Tensor& x, int64_t pass, int64_t position, int64_t bytes) {
  return static_cast<char*>(x.device_raw()) + pass * x.pass_stride() * size_of(x.dtype()) + position * bytes;
}

struct PackPadded final : Op {
  PackedRows rows;
  explicit PackPadded(const PackedRows& rows) : rows(rows) {}
  const char* name() const override { return "pack_padded"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]);
    Shape shape = x.shape();
    shape.erase(0);
    shape[0] = rows.rows();
    const Tensor out = output(shape, x);
    for_each_sample(out, rows, [&](int64_t pass, int64_t i, int64_t bytes) {
      const auto& [first_row, count, position] = rows[i];
      const char* from = bytes_of(x, pass, i * rows.positions() + position, bytes);
      std::memcpy(bytes_of(out, pass, first_row, bytes), from, count * bytes);
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {pad_packed(g, rows)}; }
};

struct PadPacked final : Op {
  PackedRows rows;
  explicit PadPacked(const PackedRows& rows) : rows(rows) {}
  const char* name() const override { return "pad_packed"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]);
    Shape shape = x.shape();
    shape[0] = rows.positions();
    shape.insert(0, rows.samples());
    const Tensor out = output(shape, x);
    for_each_sample(x, rows, [&](int64_t pass, int64_t i, int64_t bytes) {
      const auto& [first_row, count, position] = rows[i];
      char* to = bytes_of(out, pass, i * rows.positions(), bytes);
      const int64_t end = position + count;
      std::memset(to, 0, position * bytes);
      std::memcpy(to + position * bytes, bytes_of(x, pass, first_row, bytes), count * bytes);
      std::memset(to + end * bytes, 0, (rows.positions() - end) * bytes);
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {pack_padded(g, rows)}; }
};

// What index_select takes on a device, from the padded positions for each row, or from the rows for each
// position, where `none` stands for padding.
Tensor positions_of(const PackedRows& rows, Device device) {
  std::vector<int64_t> index(rows.rows());
  for (int64_t i = 0; i < rows.samples(); ++i) {
    const auto& [first_row, count, position] = rows[i];
    for (int64_t r = 0; r < count; ++r) index[first_row + r] = i * rows.positions() + position + r;
  }
  return from_values(index, {rows.rows()}).to(device);
}
Tensor rows_of(const PackedRows& rows, int64_t none, Device device) {
  std::vector<int64_t> index(rows.samples() * rows.positions(), none);
  for (int64_t i = 0; i < rows.samples(); ++i) {
    const auto& [first_row, count, position] = rows[i];
    for (int64_t r = 0; r < count; ++r) index[i * rows.positions() + position + r] = first_row + r;
  }
  return from_values(index, {std::ssize(index)}).to(device);
}

}  // namespace

Tensor pack_padded(const Tensor& x, const PackedRows& rows) {
  check<ValueError>(rows.defined(), "pack_padded: the rows are undefined");
  check<ShapeError>(x.dim() >= 2 && x.size(0) == rows.samples() && x.size(1) == rows.positions(),
                    "pack_padded: expected {} samples of {} positions, got {}", rows.samples(),
                    rows.positions(), describe(x));
  if (x.device() == kCpu) return apply<PackPadded>({x}, rows);
  return index_select(x.flatten(0, 1), 0, positions_of(rows, x.device()));
}

Tensor pad_packed(const Tensor& x, const PackedRows& rows) {
  check<ValueError>(rows.defined(), "pad_packed: the rows are undefined");
  check<ShapeError>(x.dim() >= 1 && x.size(0) == rows.rows(), "pad_packed: expected {} rows, got {}",
                    rows.rows(), describe(x));
  if (x.device() == kCpu) return apply<PadPacked>({x}, rows);
  Shape nothing = x.shape(), shape = x.shape();
  nothing[0] = 1;
  shape[0] = rows.positions();
  shape.insert(0, rows.samples());
  const Tensor with_none = cat({x, zeros(nothing, {x.dtype(), x.device()})});
  return index_select(with_none, 0, rows_of(rows, rows.rows(), x.device())).reshape(shape);
}

namespace {

const PackedRows& some_rows() {  // in front, behind, on both sides, nothing, everything
  static const PackedRows rows({{0, 2}, {1, 4}, {1, 2}, {2, 2}, {0, 4}}, 4);
  return rows;
}
Function with(Tensor (*f)(const Tensor&, const PackedRows&), const PackedRows& rows) {
  return [=](const Tensors& in) { return f(in[0], rows); };
}

const RegisterOp pack_op("pack_padded", [](OpCases& c) {
  c.sample("vectors", {c.normal({5, 4, 3})}, with(pack_padded, some_rows()));
  c.sample("numbers", {c.normal({5, 4})}, with(pack_padded, some_rows()));
  c.sample("nothing is kept", {c.normal({2, 3, 2})}, with(pack_padded, PackedRows({{0, 0}, {3, 3}}, 3)));
  c.sample("no sample", {c.normal({0, 3, 2})}, with(pack_padded, PackedRows({}, 3)));
  c.fails<ShapeError>("batch", "pack_padded: expected 5 samples of 4 positions, got f32[4,5]",
                      {zeros({4, 5})}, with(pack_padded, some_rows()));
  c.fails<ValueError>("rows", "pack_padded: the rows are undefined", {zeros({2, 2})},
                      with(pack_padded, PackedRows()));
  c.fails<ValueError>("range", "packed rows: positions [2, 4) of sample 1, expected a range in [0, 3]", [] {
    PackedRows({{0, 3}, {2, 4}}, 3);
  });
});

const RegisterOp pad_op("pad_packed", [](OpCases& c) {
  c.sample("vectors", {c.normal({10, 3})}, with(pad_packed, some_rows()));
  c.sample("numbers", {c.normal({10})}, with(pad_packed, some_rows()));
  c.sample("no row", {c.normal({0, 2})}, with(pad_packed, PackedRows({{0, 0}, {3, 3}}, 3)));
  c.fails<ShapeError>("rows", "pad_packed: expected 10 rows, got f32[3]", {zeros({3})},
                      with(pad_packed, some_rows()));
  c.fails<ValueError>("undefined", "pad_packed: the rows are undefined", {zeros({2, 2})},
                      with(pad_packed, PackedRows()));
});

}  // namespace
}  // namespace tandem
