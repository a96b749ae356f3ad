// The work that is counted: shapes as in training, few enough rows that a simulated device is done soon.
#include <fmt/format.h>

#include "autograd/registry.h"
#include "nn/optim/adam.h"
#include "nn/optim/clip.h"
#include "ops/ops.h"
#include "tests/cuda/roofline/traffic.h"

namespace tandem::roofline {
namespace {

constexpr double kOnce = 1.1;         // everything is read once
constexpr double kTwice = 1.6;        // what no shared memory holds is read again: three for two
constexpr int64_t kShared = 1 << 18;  // bytes of a row that no shared memory holds

double bytes_of(const Tensor& t) {
  return static_cast<double>(t.numel() * t.passes() * static_cast<int64_t>(size_of(t.dtype())));
}
template <class... T> double bytes_of(const Tensor& t, const T&... more) {
  return bytes_of(t) + bytes_of(more...);
}

class Maker {
 public:
  Maker(Device device, int64_t scale, DType dtype) : device_(device), scale_(scale), dtype_(dtype) {}

  std::vector<Workload> all() {
    elementwise();
    dropouts();
    softmaxes();
    norms();
    losses();
    attentions();
    sums();
    embeddings();
    if (dtype_ == DType::f32) optimizers(), copies();
    return std::move(result_);
  }

 private:
  using One = std::function<Tensor(const Tensor&)>;

  int64_t rows(int64_t n) const { return std::max<int64_t>(1, n / scale_); }
  Tensor normal(const Shape& shape, uint64_t seed, DType dtype) const {
    return SampleMaker(seed, dtype, device_).normal(shape);
  }
  Tensor normal(const Shape& shape, uint64_t seed) const { return normal(shape, seed, dtype_); }
  Tensor integers(const Shape& shape, uint64_t seed, int64_t end) const {
    return SampleMaker(seed, DType::f32, device_).integers(shape, 0, end);
  }

  void add(const std::string& name, double allowed, std::function<PreparedWork()> prepare) {
    result_.push_back({fmt::format("{} {}", name, name_of(dtype_)), allowed, std::move(prepare)});
  }

  // y = f(x).
  void forward(const std::string& name, double allowed, const Shape& shape, const One& f) {
    add(name, allowed, [=, this] {
      const Tensor x = normal(shape, 1);
      PreparedWork work{.run = [=] { f(x); }};
      const Tensor y = f(x);
      work.minimum = bytes_of(x, y);
      return work;
    });
  }
  // dx of y and dy, where the derivative needs x and dy, or y and dy: one tensor as large as x.
  void backward(const std::string& name, double allowed, const Shape& shape, const One& f) {
    add(name + " backward", allowed, [=, this] {
      const Tensor x = normal(shape, 1).requires_grad_(), y = f(x), dy = normal(y.shape(), 2);
      return PreparedWork{.run = [=] { y.backward(dy); }, .minimum = bytes_of(x, dy, x)};
    });
  }
  void both(const std::string& name, double allowed, const Shape& shape, const One& f) {
    forward(name, allowed, shape, f);
    backward(name, allowed, shape, f);
  }

  void elementwise() {
    const Shape shape{rows(1024), 512};
    add("add", kOnce, [=, this] {
      const Tensor a = normal(shape, 1), b = normal(shape, 2);
      return PreparedWork{.run = [=] { a + b; }, .minimum = bytes_of(a, b, a)};
    });
    add("add of a bias", kOnce, [=, this] {
      const Tensor a = normal(shape, 1), b = normal({512}, 2);
      return PreparedWork{.run = [=] { a + b; }, .minimum = bytes_of(a, b, a), .shared = {b}};
    });
    both("gelu", kOnce, shape, [](const Tensor& x) { return gelu(x); });
    add("compare", kOnce, [=, this] {
      const Tensor a = normal(shape, 1), b = normal(shape, 2);
      return PreparedWork{.run = [=] { lt(a, b); }, .minimum = bytes_of(a, b) + a.numel()};
    });
    add("where", kOnce, [=, this] {
      const Tensor a = normal(shape, 1), b = normal(shape, 2), c = lt(a, b);
      return PreparedWork{.run = [=] { where(c, a, b); }, .minimum = bytes_of(a, b, c, a)};
    });
  }

  void dropouts() {
    const Shape shape{rows(1024), 512};
    add("dropout, 1 pass to 2", kOnce, [=, this] {
      const Tensor x = normal(shape, 1);
      const auto run = [=] {
        const PassContext context({.seed = 1, .count = 2});
        dropout(x, 0.1);
      };
      return PreparedWork{.run = run, .minimum = 3 * bytes_of(x)};
    });
    add("dropout, 2 passes", kOnce, [=, this] {
      const Tensor x = stack_passes({normal(shape, 1), normal(shape, 2)});
      const auto run = [=] {
        const PassContext context({.seed = 1, .count = 2});
        dropout(x, 0.1);
      };
      return PreparedWork{.run = run, .minimum = 2 * bytes_of(x)};
    });
    add("dropout, 2 passes, backward", kOnce, [=, this] {
      const Tensor x = stack_passes({normal(shape, 1), normal(shape, 2)}).requires_grad_(),
                   dy = stack_passes({normal(shape, 3), normal(shape, 4)});
      const PassContext context({.seed = 1, .count = 2});
      const Tensor y = dropout(x, 0.1);
      return PreparedWork{.run = [=] { y.backward(dy); }, .minimum = 2 * bytes_of(x)};
    });
  }

  void softmaxes() {
    const int64_t longest = kShared / static_cast<int64_t>(size_of(dtype_));
    const One f = [](const Tensor& x) { return softmax(x, -1); };
    both("softmax [1024,512]", kOnce, {rows(1024), 512}, f);
    both("softmax [128,4096]", kOnce, {rows(128), 4096}, f);
    both(fmt::format("softmax [8,{}]", longest), kTwice, {8, longest}, f);
  }

  // A norm and its weights' gradients; saved: values a row that the backward is left.
  void norm(const std::string& name, int saved, int weights, int64_t n,
            const std::function<Tensor(const Tensor&, const Tensors&)>& f) {
    const auto parameters = [=, this] {
      return weights == 2 ? Tensors{normal({n}, 3, DType::f32), normal({n}, 4, DType::f32)}
                          : Tensors{normal({n}, 3, DType::f32)};
    };
    const int64_t count = rows(2048);
    const double kept = 4.0 * saved * static_cast<double>(count),
                 lines = 4.0 * static_cast<double>(n * weights);
    add(fmt::format("{} [2048,{}]", name, n), kOnce, [=, this] {
      const Tensor x = normal({count, n}, 1);
      const Tensors w = parameters();
      return PreparedWork{.run = [=] { f(x, w); }, .minimum = bytes_of(x, x) + kept + lines, .shared = w};
    });
    add(fmt::format("{} [2048,{}] backward", name, n), kOnce, [=, this] {
      const Tensor x = normal({count, n}, 1).requires_grad_(), dy = normal({count, n}, 2);
      Tensors w = parameters();
      for (const Tensor& each : w) each.requires_grad_();
      const Tensor y = f(x, w);
      return PreparedWork{
          .run = [=] { y.backward(dy); }, .minimum = bytes_of(x, dy, x) + kept + lines + lines, .shared = w};
    });
  }
  void norms() {
    for (const int64_t n : {512, 768}) {
      norm("layer_norm", 2, 2, n,
           [n](const Tensor& x, const Tensors& w) { return layer_norm(x, {n}, w[0], w[1]); });
      norm("rms_norm", 1, 1, n, [](const Tensor& x, const Tensors& w) { return rms_norm(x, w[0]); });
    }
  }

  void losses() {
    const auto loss = [&](int64_t units, int64_t classes, double allowed) {
      add(fmt::format("rdrop_cross_entropy 2x[{},{}]", units, classes), allowed, [=, this] {
        const Tensor logits =
            stack_passes({normal({units, classes}, 1), normal({units, classes}, 2)}).requires_grad_();
        const Tensor target = integers({units}, 3, classes);
        return PreparedWork{.run = [=] { rdrop_cross_entropy(logits, target, {.alpha = 1}).loss.backward(); },
                            .minimum = 2 * bytes_of(logits) + bytes_of(target)};
      });
    };
    loss(rows(512), 1000, kOnce);
    loss(rows(64), 10152, kOnce);
    loss(8, kShared / static_cast<int64_t>(size_of(dtype_)), kTwice);
    add("rdrop_mse 2x[65536]", kOnce, [=, this] {
      const int64_t units = rows(65536);
      const Tensor y = stack_passes({normal({units}, 1), normal({units}, 2)}).requires_grad_(),
                   target = normal({units}, 3);
      return PreparedWork{.run = [=] { rdrop_mse(y, target, {.alpha = 1}).loss.backward(); },
                          .minimum = 2 * bytes_of(y) + bytes_of(target)};
    });
  }

  // Of bf16 by tensor cores: operands and results, with a number a row; blocks read again what caches keep.
  // Of f32 the kernels between the products of cuBLAS: scores in, probabilities out. Heads lie inside of
  // positions, as linear layers leave them.
  void attentions() {
    const bool by_tensor_cores = dtype_ == DType::bf16;
    const int64_t samples = rows(4), heads = 4, n = 128;
    const auto count = static_cast<double>(samples * heads * n * n);
    const double logs = 4.0 * static_cast<double>(samples * heads * n),
                 of_score = 4.0 + static_cast<double>(size_of(dtype_));
    const Shape shape{samples, n, heads, 64};
    const auto attend = [](const Tensor& q, const Tensor& k, const Tensor& v) {
      return attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), {.dropout = 0.1})
          .transpose(1, 2);
    };
    add("attention, dropout", kOnce, [=, this] {
      const Tensor q = normal(shape, 1), k = normal(shape, 2), v = normal(shape, 3);
      const auto run = [=] {
        const PassContext context({.seed = 1});
        attend(q, k, v);
      };
      if (by_tensor_cores)
        return PreparedWork{.run = run, .minimum = bytes_of(q, k, v, q) + logs, .shared = {k, v}};
      return PreparedWork{.run = run, .minimum = count * of_score + logs};
    });
    add("attention, dropout, backward", kOnce, [=, this] {
      const Tensor q = normal(shape, 1).requires_grad_(), k = normal(shape, 2).requires_grad_(),
                   v = normal(shape, 3).requires_grad_(), dy = normal(shape, 4);
      const PassContext context({.seed = 1});
      const Tensor y = attend(q, k, v);
      const auto run = [=] { y.backward(dy); };
      if (by_tensor_cores)
        return PreparedWork{.run = run, .minimum = 2 * bytes_of(q, k, v, y) + logs, .shared = {q, k, v, dy}};
      return PreparedWork{.run = run, .minimum = 2 * count * of_score + logs};
    });
  }

  void sums() {
    const Shape shape{rows(1024), 512};
    forward("sum of rows", kOnce, shape, [](const Tensor& x) { return sum(x, {-1}); });
    forward("sum of columns", kOnce, shape, [](const Tensor& x) { return sum(x, {0}); });
    forward("sum of all", kOnce, shape, [](const Tensor& x) { return sum(x); });
  }

  // A row of the table for each token, read and written.
  void embeddings() {
    const int64_t tokens = rows(1024), width = 512, words = 1000;
    add("embedding [1024] of 512", kOnce, [=, this] {
      const Tensor table = normal({words, width}, 1), index = integers({tokens}, 2, words);
      const Tensor y = embedding(table, index);
      return PreparedWork{.run = [=] { embedding(table, index); }, .minimum = bytes_of(y, y, index)};
    });
    add("embedding [1024] of 512 backward", 0, [=, this] {
      const Tensor table = normal({words, width}, 1).requires_grad_(), index = integers({tokens}, 2, words);
      const Tensor y = embedding(table, index), dy = normal(y.shape(), 3);
      return PreparedWork{.run = [=] { y.backward(dy); }, .minimum = bytes_of(dy, index, table)};
    });
  }

  Tensors parameters() const {
    Tensors all;
    for (const Shape& shape : {Shape{512, 512}, {512}, {rows(1024), 512}, {1024}, {10, 512}, {10}}) {
      all.push_back(normal(shape, 1).requires_grad_());
      all.back().grad() = normal(shape, 2);
    }
    return all;
  }
  void optimizers() {
    const auto bytes = [](const Tensors& all) {
      double total = 0;
      for (const Tensor& each : all) total += bytes_of(each);
      return total;
    };
    add("AdamW, 6 parameters", kOnce, [=, this] {
      const Tensors all = parameters();
      const auto optimizer = std::make_shared<nn::AdamW>(all);
      optimizer->step();  // its state is there then
      return PreparedWork{.run = [=] { optimizer->step(); }, .minimum = 7 * bytes(all)};
    });
    add("grad_norm, 6 parameters", kOnce, [=, this] {
      const Tensors all = parameters();
      return PreparedWork{.run = [=] { nn::grad_norm(all); }, .minimum = bytes(all)};
    });
    add("clip_grad_norm, 6 parameters", kOnce, [=, this] {
      const Tensors all = parameters();
      return PreparedWork{.run = [=] { nn::clip_grad_norm(all, 1); }, .minimum = 3 * bytes(all)};
    });
  }

  void copies() {
    const auto copy = [&](DType from, DType to) {
      result_.push_back({fmt::format("copy {} to {}", name_of(from), name_of(to)), kOnce, [=, this] {
                           const Tensor x = normal({rows(1024), 512}, 1, from), y = x.to(to);
                           return PreparedWork{.run = [=] { x.to(to); }, .minimum = bytes_of(x, y)};
                         }});
    };
    copy(DType::f32, DType::bf16);
    copy(DType::bf16, DType::f32);
  }

  Device device_;
  int64_t scale_;
  DType dtype_;
  std::vector<Workload> result_;
};

}  // namespace

std::vector<Workload> traffic_workloads(Device device, int64_t scale) {
  std::vector<Workload> all;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    // The workloads call their maker later, so it lives on with them.
    const auto maker = std::make_shared<Maker>(device, scale, dtype);
    for (Workload& each : maker->all()) {
      each.prepare = [maker, prepare = std::move(each.prepare)] { return prepare(); };
      all.push_back(std::move(each));
    }
  }
  return all;
}

}  // namespace tandem::roofline
