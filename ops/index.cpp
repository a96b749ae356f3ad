// x[indices] is read in two steps: the basic part (integers, slices, ...) by views; then, where there are
// masks or places, the dimensions that they name are seen as one, along which rows are gathered. Writing goes
// back the same way.
#include "ops/index.h"

#include <limits>

#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/indexing.h"
#include "ops/loops/gather.h"
#include "ops/loops/index.h"
#include "ops/loops/inplace.h"
#include "ops/loops/loop.h"
#include "ops/views.h"

namespace tandem {
namespace {

// What indices say about x.
struct Plan {
  std::vector<Index> basic;    // integers, slices and new axes, one for each dimension of x
  bool all_of_x = true;        // they take all of it as it is
  std::vector<int> dims;       // of the basic part, that tensors name, ascending
  std::vector<Tensor> places;  // along each of these: i64, in range
};

bool is_whole(const Index& i) {
  return i.kind == Index::Kind::slice && !i.slice.start && !i.slice.end && i.slice.step == 1;
}

Plan plan_of(const Tensor& x, const IndexList& indices) {
  int used = 0, ellipses = 0;
  for (const Index& i : indices) {
    ellipses += i.kind == Index::Kind::ellipsis;
    if (i.kind == Index::Kind::tensor) {
      detail::check_one_pass("index", Tensor(i.tensor));
      used += i.tensor->dtype == DType::boolean ? i.tensor->shape.size() : 1;
    } else {
      used += i.kind == Index::Kind::integer || i.kind == Index::Kind::slice;
    }
  }
  check<ShapeError>(used <= x.dim(), "index: {} indices for {}", used, describe(x));
  check<ShapeError>(ellipses <= 1, "index: more than one ellipsis");
  Plan plan;
  int from = 0, to = 0;  // dimensions of x, and of the basic part
  for (const Index& i : indices) {
    if (i.kind == Index::Kind::ellipsis) {
      plan.basic.resize(plan.basic.size() + (x.dim() - used));
      from += x.dim() - used, to += x.dim() - used;
    } else if (i.kind == Index::Kind::tensor) {
      const Tensor tensor(i.tensor);
      const bool mask = tensor.dtype() == DType::boolean;
      const int count = mask ? tensor.dim() : 1;
      check<ShapeError>(count > 0, "index: a mask without dimensions ({}); where() takes one",
                        describe(tensor));
      for (int d = 0; mask && d < count; ++d)
        check<ShapeError>(tensor.shape()[d] == x.shape()[from + d],
                          "index: the mask {} does not fit the dimensions from {} on of {}", describe(tensor),
                          from, describe(x));
      const Tensor where_true = mask ? nonzero(tensor) : Tensor();
      for (int d = 0; d < count; ++d) {
        plan.basic.emplace_back();
        plan.dims.push_back(to++);
        plan.places.push_back(mask ? where_true.select(1, d)
                                   : detail::index_in_range("index", tensor, x.shape()[from]));
        ++from;
      }
    } else {
      plan.basic.push_back(i);
      plan.all_of_x &= is_whole(i);
      from += i.kind != Index::Kind::new_axis;
      to += i.kind != Index::Kind::integer;
    }
  }
  return plan;
}

// The basic part of x; slicer(x, dim, start, end, step) takes slices.
template <class Slicer> Tensor basic_part(Tensor x, const std::vector<Index>& basic, Slicer slicer) {
  int d = 0;
  for (const Index& i : basic) {
    if (i.kind == Index::Kind::integer) {
      x = x.select(d, i.integer);
    } else if (i.kind == Index::Kind::new_axis) {
      x = x.unsqueeze(d++);
    } else {
      constexpr int64_t first = std::numeric_limits<int64_t>::min(),
                        last = std::numeric_limits<int64_t>::max();
      const bool forward = i.slice.step > 0;
      if (!is_whole(i))
        x = slicer(x, d, i.slice.start.value_or(forward ? 0 : last),
                   i.slice.end.value_or(forward ? last : first), i.slice.step);
      ++d;
    }
  }
  return x;
}
Tensor read_basic(const Tensor& x, const std::vector<Index>& basic) { return basic_part(x, basic, slice); }
// As a view to be written to.
Tensor view_of(const Tensor& x, const std::vector<Index>& basic) {
  const NoGradGuard no_grad;
  return basic_part(x.detach(), basic, detail::slice_view);
}

// x seen as [before..., rows, after...], where the dimensions that tensors name are one, at `dim`, and
// `places` along that: [n], of the shape `picked`.
struct Rows {
  Rows(const Tensor& x, const Plan& plan) {
    const int count = static_cast<int>(plan.dims.size());
    const bool neighbours = plan.dims.back() - plan.dims.front() == count - 1;
    dim = neighbours ? plan.dims[0] : 0;
    for (int d = 0; d < dim; ++d) order.push_back(d);
    for (int d : plan.dims) order.push_back(d);
    for (int d = dim; d < x.dim(); ++d)
      if (std::find(plan.dims.begin(), plan.dims.end(), d) == plan.dims.end()) order.push_back(d);
    const Tensor ordered = permute(x, order);
    ordered_shape = flat = ordered.shape();
    Tensor at;
    for (int k = 0; k < count; ++k) {
      const int64_t size = ordered_shape[dim + k];
      flat[dim] = k == 0 ? size : flat[dim] * size;
      const Tensor& next = plan.places[static_cast<size_t>(k)];
      if (k > 0) flat.erase(dim + 1), broadcast("index", at.shape(), next.shape());
      at = k == 0 ? next : affine(at, static_cast<double>(size), 0) + next;
    }
    rows = reshape(ordered, flat);
    picked = at.shape();
    places = at.reshape({at.numel()});
  }

  // `shape` with the size along dim replaced by sizes.
  Shape with(const Shape& sizes) const {
    Shape result;
    for (int d = 0; d < flat.size(); ++d) {
      if (d != dim) result.push_back(flat[d]);
      for (int64_t size : d == dim ? sizes : Shape()) result.push_back(size);
    }
    return result;
  }
  // The places for every element of [before..., n, after...].
  Tensor index() const {
    Shape along(std::vector<int64_t>(static_cast<size_t>(flat.size()), 1));
    along[dim] = places.numel();
    return places.reshape(along).expand(with({places.numel()}));
  }
  Tensor read() const { return detail::gather_known(rows, dim, index()).reshape(with(picked)); }
  // What stands for the rows is brought into the shape that x had.
  Tensor back(const Tensor& written) const {
    Shape inverse = order;
    for (int d = 0; d < order.size(); ++d) inverse[static_cast<int>(order[d])] = d;
    return permute(reshape(written, ordered_shape), inverse);
  }
  // values, which broadcast to what read() gives, as a source of index().
  Tensor source(const Tensor& values) const {
    return values.expand(with(picked)).reshape(with({places.numel()}));
  }

  int dim;
  Shape order, ordered_shape, flat, picked;
  Tensor rows, places;
};

// in[0] with the basic part written from in[1], or increased by that.
struct IndexPut final : Op {
  std::vector<Index> basic;
  bool accumulate;
  IndexPut(const std::vector<Index>& basic, bool accumulate) : basic(basic), accumulate(accumulate) {}
  const char* name() const override { return "index_put"; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(in[0].shape(), in[0]);
    copy_elements(out, in[0]);
    const Tensor part = view_of(out, basic);
    accumulate ? part.add_(in[1]) : part.copy_(in[1]);
    return out;
  }
  Tensors vjp(const Tensor& g) override {
    const Tensor zero = zeros({}, {g.dtype(), g.device()});
    const auto rest = [&] { return accumulate ? g : apply<IndexPut>({g, zero}, basic, false); };
    return {needs(0) ? rest() : Tensor(), needs(1) ? read_basic(g, basic) : Tensor()};
  }
};

constexpr detail::Write kIndexPut{"index_put_", "h = where(mask, y, h)"};

void check_shape(const char* op, const Tensor& values, const Shape& target) {
  const int shift = target.size() - values.dim();
  bool fits = shift >= 0;
  for (int d = 0; fits && d < values.dim(); ++d)
    fits = values.shape()[d] == 1 || values.shape()[d] == target[d + shift];
  check<ShapeError>(fits, "{}: values {} do not fit into {}", op, describe(values), target);
}

}  // namespace

Indexed Tensor::operator[](const Index& index) const { return this->index({index}); }

Indexed Tensor::index(const IndexList& indices) const {
  const Plan plan = plan_of(*this, indices);
  Tensor part = read_basic(*this, plan.basic);
  bool copies = !plan.dims.empty();
  for (const Index& i : plan.basic) copies |= i.kind == Index::Kind::slice && i.slice.step < 0;
  if (!plan.dims.empty()) part = Rows(part, plan).read();
  return copies ? Indexed(part, *this, indices) : Indexed(part);
}

Tensor index_put(const Tensor& x, const IndexList& indices, const Tensor& values, bool accumulate) {
  detail::check_wide_enough({"index_put", ""}, x, values);
  const Plan plan = plan_of(x, indices);
  const Tensor part = read_basic(x, plan.basic), source = values.to(x.dtype());
  if (plan.dims.empty()) {
    check_shape("index_put", source, part.shape());
    return apply<IndexPut>({x, source}, plan.basic, accumulate);
  }
  const Rows rows(part, plan);
  check_shape("index_put", source, rows.with(rows.picked));
  const auto put = accumulate ? scatter_add : scatter;
  const Tensor written = rows.back(put(rows.rows, rows.dim, rows.index(), rows.source(source)));
  return plan.all_of_x ? written : apply<IndexPut>({x, written}, plan.basic, false);
}

Tensor index_put(const Tensor& x, const IndexList& indices, double value, bool accumulate) {
  return index_put(x, indices, detail::beside("index_put", value, x), accumulate);
}

const Tensor& Tensor::index_put_(const IndexList& indices, const Tensor& values, bool accumulate) const {
  detail::check_writable(kIndexPut, *this);
  detail::check_wide_enough(kIndexPut, *this, values);
  const Tensor source = detail::readable(kIndexPut, *this, values).detach().to(dtype());
  const NoGradGuard no_grad;
  const Plan plan = plan_of(*this, indices);
  const Tensor part = view_of(*this, plan.basic);
  check<ShapeError>(source.passes() == 1 || source.passes() == passes(),
                    "index_put_: {} does not fit into {}", describe(values), describe(*this));
  if (plan.dims.empty()) {
    check_shape("index_put_", source, part.shape());
    accumulate ? part.add_(source) : part.copy_(source);
    return *this;
  }
  const Rows rows(part, plan);
  check_shape("index_put_", source, rows.with(rows.picked));
  // Places are written in any order.
  if (source.impl()->storage == impl()->storage) return index_put_(indices, source.clone(), accumulate);
  if (accumulate) {
    part.copy_(rows.back(scatter_add(rows.rows, rows.dim, rows.index(), rows.source(source))));
    return *this;
  }
  const bool places_are_x = rows.places.impl()->storage == impl()->storage;
  detail::write_known(rows.rows, rows.dim, places_are_x ? rows.index().clone() : rows.index(),
                      rows.source(source));
  if (rows.rows.impl()->storage == impl()->storage) {
    bump_version();
  } else {
    part.copy_(rows.back(rows.rows));  // no view shows the dimensions as one
  }
  return *this;
}

struct Indexed::Source {
  std::weak_ptr<TensorImpl> of;  // lives as long as the expression; a name for the part does not keep it
  IndexList indices;
};

Indexed::Indexed(const Tensor& copy, const Tensor& of, const IndexList& indices)
    : Tensor(copy), source_(std::make_shared<const Source>(Source{of.impl(), indices})) {}

Tensor Indexed::beside(double number) const { return detail::beside("index", number, *this); }

void Indexed::write(char op, const Tensor& value) const {
  if (source_) {
    Tensor(source_->of.lock())
        .index_put_(source_->indices, op == '+'   ? *this + value
                                      : op == '-' ? *this - value
                                      : op == '*' ? *this * value
                                      : op == '/' ? *this / value
                                                  : value);
  } else if (op == '=') {
    copy_(value);
  } else if (op == '+') {
    add_(value);
  } else if (op == '-') {
    add_(value, -1);
  } else if (op == '*') {
    mul_(value);
  } else {
    div_(value);
  }
}

namespace {

Tensor places_of(std::initializer_list<int64_t> places, const Shape& shape) {
  return from_values(std::vector<int64_t>(places), shape);
}

// x[indices], whose tensors go to the device of x.
IndexList on_device(const Tensor& x, IndexList indices) {
  for (Index& i : indices)
    if (i.kind == Index::Kind::tensor) i.tensor = Tensor(i.tensor).to(x.device()).impl();
  return indices;
}
Tensor read(const Tensor& x, IndexList indices) { return x.index(on_device(x, indices)); }

const RegisterOp index_op("index", [](OpCases& c) {
  const auto at = bound(read);
  const Tensor some = places_of({3, 0, 3, 1}, {2, 2}), few = places_of({1, 0}, {2, 1});
  c.sample("basic", {c.normal({3, 4, 2})}, at({{1, {}}, {{}, {}, -2}, NewAxis{}, 0}));
  c.sample("mask", {c.normal({3, 4, 2})}, at({c.mask({3, 4})}));
  c.sample("mask behind", {c.normal({2, 3, 4})}, at({{}, c.mask({3, 4}), NewAxis{}}));
  c.sample("none", {c.normal({3})}, at({zeros({3}, {DType::boolean})}));
  c.sample("places", {c.normal({3, 4})}, at({{}, some}));
  c.sample("neighbours", {c.normal({2, 3, 4})}, at({{}, few, some}));
  c.sample("apart", {c.normal({2, 4, 3})}, at({few, {1, 3}, places_of({2, 2}, {2})}));
  c.sample("i32", {c.normal({4})}, at({some.to(DType::i32)}));
  const Tensor x = zeros({3, 4});
  c.fails<ShapeError>("count", "index: 3 indices for f32[3,4]", {x}, at({0, 0, 0}));
  c.fails<ShapeError>("mask", "index: the mask bool[3] does not fit the dimensions from 1 on of f32[3,4]",
                      {x}, at({{}, zeros({3}, {DType::boolean})}));
  c.fails<ShapeError>("number", "index: a mask without dimensions (bool[])", {x},
                      at({zeros({}, {DType::boolean})}));
  c.fails<ShapeError>("passes", "index: bool[3] x 2 passes: expected one pass", {x},
                      at({empty({3}, {DType::boolean}, 2)}));
  c.fails<ValueError>("range", "index: index 3 is out of range for size 3", {x}, at({some}));
  c.fails<DTypeError>("floats", "index: expected an index dtype (i32, i64), got f32", {x}, at({zeros({3})}));
  c.fails<ShapeError>("shapes", "index: shapes [2] and [3] do not broadcast", {x},
                      at({places_of({0, 1}, {2}), places_of({0, 1, 2}, {3})}));
});

Function put_at(IndexList indices, bool accumulate) {
  return [=](const Tensors& in) { return index_put(in[0], on_device(in[0], indices), in[1], accumulate); };
}

const RegisterOp index_put_op("index_put", [](OpCases& c) {
  const Tensor twice = places_of({3, 0, 3, 1}, {2, 2}), few = places_of({1, 0}, {2, 1});
  for (const bool accumulate : {false, true}) {
    const auto sample = [&](std::string label, const Shape& x, const Shape& values,
                            const IndexList& indices) {
      c.sample(label + (accumulate ? ", added" : ""), {c.normal(x), c.normal(values)},
               put_at(indices, accumulate));
    };
    sample("row", {3, 4}, {4}, {1});
    sample("backwards", {3, 4}, {3, 2}, {{}, {{}, {}, -2}});
    sample("number", {3, 4}, {}, {{1, {}}, {0, 2}});
    sample("mask", {3, 4}, {}, {c.mask({3, 4})});
    sample("mask of rows", {3, 4}, {4}, {tensor({true, false, true})});
    sample("places", {4, 2}, {2, 2, 2}, {twice});
    sample("apart", {2, 4, 4}, {1, 2, 2}, {few, {1, 3}, twice});
    sample("one", {3, 4}, {2, 2}, {2, twice});
    sample("none", {3}, {0}, {{1, 1}});
  }
  const Tensor x = zeros({3, 4});
  c.fails<ShapeError>("shape", "index_put: values f32[3] do not fit into [4]", {x, zeros({3})},
                      put_at({1}, false));
  c.fails<ShapeError>("rows", "index_put: values f32[3] do not fit into [2,4]", {x, zeros({3})},
                      put_at({few.squeeze(1)}, false));
  c.fails<DTypeError>("narrow", "index_put: f32[4] into i64[3,4], which is narrower",
                      {x.to(DType::i64), zeros({4})}, put_at({1}, false));
  c.fails<ValueError>("range", "index: index 3 is out of range for size 3", {x, zeros({})},
                      put_at({twice}, false));
});

}  // namespace
}  // namespace tandem
