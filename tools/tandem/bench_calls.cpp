// Ops at the sizes that `tandem bench ops` gives them.
#include "autograd/pass_context.h"
#include "ops/ops.h"
#include "tools/bench/workloads.h"
#include "tools/tandem/bench.h"

namespace tandem::command {
namespace {

using bench::integers, bench::normal;

Tensor mask(const Shape& shape) {
  return SampleMaker(7, DType::f32, nn::InitScope::current().device).mask(shape, 0.5);
}

std::function<Tensors()> normals(const std::vector<Shape>& shapes) {
  return [=] {
    Tensors made;
    for (const Shape& shape : shapes) made.push_back(normal(shape, made.size() + 1));
    return made;
  };
}

// `shapes` of normal numbers, then what `other` makes.
std::function<Tensors()> normals_and(const std::vector<Shape>& shapes, std::function<Tensor()> other) {
  return [=] {
    Tensors made = normals(shapes)();
    made.push_back(other());
    return made;
  };
}

void add_elementwise(std::vector<OpCall>& calls, int64_t rows, int64_t columns) {
  const Shape block{rows, columns};
  const auto one = normals({block}), two = normals({block, block});
  calls.insert(
      calls.end(),
      {
          {"add", "", two, call(add)},
          {"add", "a row", normals({block, {columns}}), call(add)},
          {"copy", "of the transpose", one, [](const Tensors& in) { return in[0].t().contiguous(); }},
          {"where", "", normals_and({block, block}, [=] { return mask(block); }),
           [](const Tensors& in) { return where(in[2], in[0], in[1]); }},
          {"masked_fill", "", normals_and({block}, [=] { return mask(block); }),
           [](const Tensors& in) { return masked_fill(in[0], in[1], 0); }},
          {"all", "", [=] { return Tensors{mask(block)}; }, [](const Tensors& in) { return all(in[0]); }},
          {"any", "", [=] { return Tensors{mask(block)}; }, [](const Tensors& in) { return any(in[0]); }},
          {"logical_and", "",
           [=] {
             return Tensors{mask(block), mask(block)};
           },
           call(logical_and)},
          {"logical_or", "",
           [=] {
             return Tensors{mask(block), mask(block)};
           },
           call(logical_or)},
          {"dropout", "", one,
           [](const Tensors& in) {
             const PassContext context({.seed = 1});
             return dropout(in[0], 0.1);
           }},
          {"drop_path", "", one,
           [](const Tensors& in) {
             const PassContext context({.seed = 1});
             return drop_path(in[0], 0.1);
           }},
          {"cat", "", two, [](const Tensors& in) { return cat(in, 1); }},
          {"stack", "", two, [](const Tensors& in) { return stack(in); }},
          {"pad", "", one,
           [](const Tensors& in) {
             return pad(in[0], {1, 1, 1, 1});
           }},
          {"flip", "rows", one, [](const Tensors& in) { return flip(in[0], {0}); }},
          {"flip", "columns", one, [](const Tensors& in) { return flip(in[0], {1}); }},
          {"slice", "every second row", one,
           [](const Tensors& in) { return in[0].slice(0, 0, in[0].size(0), 2).contiguous(); }},
          {"dot", "", normals({{rows * columns}, {rows * columns}}), call(dot)},
          {"outer", "", normals({{rows}, {columns}}), call(outer)},
      });
}

// Along a dimension: sums, scans, sorts, softmax, norms, places.
void add_dimensions(std::vector<OpCall>& calls, int64_t rows, int64_t columns) {
  const Shape block{rows, columns};
  const auto one = normals({block});
  for (const int64_t dim : {1, 0}) {
    const std::string along = dim == 1 ? "" : "of columns";
    calls.insert(
        calls.end(),
        {
            {"sum", along, one, [=](const Tensors& in) { return sum(in[0], {dim}); }},
            {"amax", along, one, [=](const Tensors& in) { return amax(in[0], {dim}); }},
            {"argmax", along, one, [=](const Tensors& in) { return argmax(in[0], dim); }},
            {"var", along, one, [=](const Tensors& in) { return var(in[0], {dim}); }},
            {"softmax", along, one, [=](const Tensors& in) { return softmax(in[0], dim); }},
            {"log_softmax", along, one, [=](const Tensors& in) { return log_softmax(in[0], dim); }},
            {"cumsum", along, one, [=](const Tensors& in) { return cumsum(in[0], dim); }},
            {"sort", along, one, [=](const Tensors& in) { return sort(in[0], dim).values; }},
            {"topk", dim == 1 ? "10" : "10 of columns", one,
             [=](const Tensors& in) {
               return topk(in[0], std::min<int64_t>(10, in[0].size(dim)), dim).values;
             }},
            {"gather", along, normals_and({block}, [=] { return integers(block, 3, 0, block[dim]); }),
             [=](const Tensors& in) { return gather(in[0], dim, in[1]); }},
            {"scatter", along, normals_and({block, block}, [=] { return integers(block, 3, 0, block[dim]); }),
             [=](const Tensors& in) { return scatter(in[0], dim, in[2], in[1]); }},
            {"scatter_add", along,
             normals_and({block, block}, [=] { return integers(block, 3, 0, block[dim]); }),
             [=](const Tensors& in) { return scatter_add(in[0], dim, in[2], in[1]); }},
        });
  }
  const auto some_rows = normals_and({block}, [=] { return integers({rows}, 3, 0, rows); });
  calls.insert(calls.end(),
               {
                   {"sum", "all", one, [](const Tensors& in) { return sum(in[0]); }},
                   {"argsort", "", one, [](const Tensors& in) { return argsort(in[0]); }},
                   {"index_select", "rows", some_rows,
                    [](const Tensors& in) { return index_select(in[0], 0, in[1]); }},
                   {"index", "rows", some_rows, [](const Tensors& in) { return in[0].index({in[1]}); }},
                   {"index_put", "rows added",
                    normals_and({block, block}, [=] { return integers({rows}, 3, 0, rows); }),
                    [](const Tensors& in) { return index_put(in[0], {in[2]}, in[1], true); }},
                   {"masked_select", "", normals_and({block}, [=] { return mask(block); }),
                    [](const Tensors& in) { return masked_select(in[0], in[1]); }},
                   {"nonzero", "", [=] { return Tensors{mask(block)}; }, call(nonzero)},
                   {"one_hot", "", [=] { return Tensors{integers({rows}, 3, 0, columns)}; },
                    [=](const Tensors& in) { return one_hot(in[0], columns); }},
                   {"embedding", "", normals_and({block}, [=] { return integers({rows}, 3, 0, rows); }),
                    [](const Tensors& in) { return embedding(in[0], in[1]); }},
                   {"layer_norm", "", normals({block, {columns}, {columns}}),
                    [=](const Tensors& in) { return layer_norm(in[0], {columns}, in[1], in[2]); }},
                   {"rms_norm", "", normals({block, {columns}}),
                    [](const Tensors& in) { return rms_norm(in[0], in[1]); }},
               });
}

// Of a batch that is half padding: sample i has (i + 1) / batch of the tokens.
void add_packed(std::vector<OpCall>& calls, int64_t batch, int64_t tokens, int64_t heads, int64_t dim) {
  std::vector<PackedRows::Range> words;
  double scores = 0;
  for (int64_t i = 0; i < batch; ++i) {
    const int64_t count = tokens * (i + 1) / batch;
    words.push_back({0, count});
    scores += 4.0 * static_cast<double>(count * count * dim);
  }
  const PackedRows rows(words, tokens);
  const Shape head{rows.rows(), heads, dim / heads};
  calls.insert(calls.end(),
               {
                   {"packed_attention", "half padding", normals({head, head, head}),
                    [=](const Tensors& in) { return packed_attention(in[0], in[1], in[2], rows, rows); },
                    scores, 2.5 * scores},
                   {"pack_padded", "half padding", normals({{batch, tokens, dim}}),
                    [=](const Tensors& in) { return pack_padded(in[0], rows); }},
                   {"pad_packed", "half padding", normals({{rows.rows(), dim}}),
                    [=](const Tensors& in) { return pad_packed(in[0], rows); }},
               });
}

void add_products(std::vector<OpCall>& calls, int64_t rows) {
  const int64_t d = 256, hidden = 1024, batch = std::max<int64_t>(1, rows / 128), heads = 4, tokens = 128;
  const double product = 2.0 * rows * d * hidden;
  const Shape head{batch, heads, tokens, d / heads};
  const double scores = 4.0 * batch * heads * tokens * tokens * (d / heads);
  calls.insert(calls.end(),
               {
                   {"matmul", "", normals({{rows, d}, {d, hidden}}), call(matmul), product},
                   {"linear", "", normals({{rows, d}, {hidden, d}, {hidden}}),
                    [](const Tensors& in) { return linear(in[0], in[1], in[2]); }, product},
                   {"einsum", "ij,kj->ik", normals({{rows, d}, {hidden, d}}),
                    [](const Tensors& in) { return einsum("ij,kj->ik", in); }, product},
                   {"feed_forward", "relu", normals({{rows, d}, {hidden, d}, {hidden}, {d, hidden}, {d}}),
                    [](const Tensors& in) {
                      return feed_forward(in[0], in[1], in[2], in[3], in[4], Activation::relu);
                    },
                    2 * product},
                   {"attention", "", normals({head, head, head}),
                    [](const Tensors& in) { return attention(in[0], in[1], in[2]); }, scores, 2.5 * scores},
                   {"attention_dropout", "", normals({head, head, head}),
                    [](const Tensors& in) {
                      const PassContext context({.seed = 1});
                      return attention(in[0], in[1], in[2], {.dropout = 0.1});
                    },
                    scores, 2.5 * scores},
               });
  add_packed(calls, batch, tokens, heads, d);
}

void add_images(std::vector<OpCall>& calls, int64_t rows) {
  const int64_t batch = std::max<int64_t>(1, rows / 64), channels = 64, side = 32;
  const Shape images{batch, channels, side, side}, channel{channels};
  const auto one = normals({images});
  calls.insert(calls.end(),
               {
                   {"conv2d", "3x3", normals({images, {channels, channels, 3, 3}}),
                    [](const Tensors& in) {
                      return conv2d(in[0], in[1], {}, {.padding = {1, 1}});
                    },
                    2.0 * images.numel() * channels * 9},
                   {"max_pool2d", "2x2", one,
                    [](const Tensors& in) {
                      return max_pool2d(in[0], {2, 2});
                    }},
                   {"avg_pool2d", "2x2", one,
                    [](const Tensors& in) {
                      return avg_pool2d(in[0], {2, 2});
                    }},
                   {"adaptive_avg_pool2d", "1x1", one,
                    [](const Tensors& in) {
                      return adaptive_avg_pool2d(in[0], {1, 1});
                    }},
                   {"interpolate", "to half", one,
                    [](const Tensors& in) {
                      return interpolate(in[0], {.size = {16, 16}, .mode = Interpolation::bilinear});
                    }},
                   {"batch_norm", "", normals({images, channel, channel}),
                    [](const Tensors& in) { return batch_norm(in[0], {}, in[1], in[2], true); }},
                   {"group_norm", "8", normals({images, channel, channel}),
                    [](const Tensors& in) { return group_norm(in[0], 8, in[1], in[2]); }},
               });
}

// Of `rows` units in all, which have `classes`.
void add_losses(std::vector<OpCall>& calls, int64_t rows, int64_t classes) {
  const int64_t units = std::max<int64_t>(1, rows / 2), d = 256, words = 10000;
  const auto target = [=] { return integers({units}, 3, 0, classes); };
  const auto passes = [=](const Shape& shape) {
    return [=] { return stack_passes({normal(shape, 1), normal(shape, 2)}); };
  };
  const auto logits_and = [=](std::function<Tensor()> labels) {
    return [=] { return Tensors{passes({units, classes})(), labels()}; };
  };
  const int64_t texts = std::max<int64_t>(1, units / 16);
  calls.insert(
      calls.end(),
      {
          {"cross_entropy", "",
           normals_and({{rows, classes}}, [=] { return integers({rows}, 3, 0, classes); }),
           [](const Tensors& in) { return cross_entropy(in[0], in[1]); }, 0, 0, true},
          {"nll_loss", "", normals_and({{rows, classes}}, [=] { return integers({rows}, 3, 0, classes); }),
           [](const Tensors& in) { return nll_loss(in[0], in[1]); }},
          {"rdrop_cross_entropy", "2 passes", logits_and(target),
           [](const Tensors& in) { return rdrop_cross_entropy(in[0], in[1]).loss; }, 0, 0, true},
          {"weighted_rdrop_cross_entropy", "2 passes", logits_and(target),
           [=](const Tensors& in) {
             return weighted_rdrop_cross_entropy(in[0], in[1], ones({classes}, {.device = in[0].device()}))
                 .loss;
           }},
          {"rdrop_binary_cross_entropy", "2 passes",
           [=] {
             return Tensors{passes({units, classes})(), mask({units, classes}).to(DType::f32)};
           },
           [](const Tensors& in) { return rdrop_binary_cross_entropy(in[0], in[1].detach()).loss; }},
          {"rdrop_mse", "2 passes",
           [=] {
             return Tensors{passes({units * classes})(), normal({units * classes}, 3)};
           },
           [](const Tensors& in) { return rdrop_mse(in[0], in[1]).loss; }, 0, 0, true},
          {"linear_rdrop_cross_entropy", "2 passes, 10000 classes",
           [=] {
             return Tensors{passes({texts, d})(), normal({words, d}, 3), integers({texts}, 4, 0, words)};
           },
           [](const Tensors& in) { return linear_rdrop_cross_entropy(in[0], in[1], {}, in[2]).loss; },
           3 * 2.0 * 2 * texts * d * words, 0, true},
      });
}

}  // namespace

std::vector<OpCall> op_calls(int64_t rows) {
  std::vector<OpCall> calls;
  add_elementwise(calls, rows, 1024);
  add_dimensions(calls, rows, 1024);
  add_products(calls, rows);
  add_images(calls, rows);
  add_losses(calls, rows, 1024);
  return calls;
}

}  // namespace tandem::command
