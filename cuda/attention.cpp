// Attention by cuDNN where it can be, of bf16 by tensor cores (cuda/flash_attention.h), or as products of
// cuBLAS with one kernel between them: S = q k^T, A = dropout(softmax(S)), out = A v. The backward makes A
// again, beside dS. The scores of only some heads exist at a time.
#include <algorithm>

#include "autograd/device.h"
#include "autograd/error.h"
#include "autograd/kernel.h"
#include "cuda/blas.h"
#include "cuda/context.h"
#include "cuda/dnn_attention.h"
#include "cuda/flash_attention.h"
#include "ops/attention_kernel.h"

namespace tandem::cuda {
namespace {

using detail::AttentionMend;
using detail::AttentionProblem;
using detail::AttentionRows;
using detail::HeadRows;
using detail::MatmulArgs;
using detail::MatrixBatch;

// Heads [head, head + heads) of items [item, item + items); an item is a sample of a pass.
struct Chunk {
  int64_t item, items, head, heads;
};

// Matrices of items and heads; `matrix` is that of item and head 0.
struct Operand {
  MatrixBatch matrix;
  int64_t pass, batch, head;               // strides
  int64_t samples;                         // of a pass; 0: items go on evenly from pass to pass
  int64_t first_item = 0, first_head = 0;  // whose matrix it is instead
  MatrixBatch at(int64_t item, int64_t head_index) const {
    MatrixBatch m = matrix;
    item -= first_item;
    const int64_t sample = samples ? item / samples * pass + item % samples * batch : item * batch;
    m.data =
        static_cast<const char*>(m.data) + (sample + (head_index - first_head) * head) * size_of(m.dtype);
    return m;
  }
  int64_t end_of_even(int64_t item, int64_t end) const {
    return samples == 0 || pass == samples * batch ? end : std::min(end, (item / samples + 1) * samples);
  }
};

Operand transposed(Operand x) {
  x.matrix = detail::transposed(x.matrix);
  return x;
}

// c = a b for a chunk's items and heads: one call for each head where items are evenly apart, or one for each
// item, whichever are fewer.
void products(const Chunk& chunk, const Operand& a, const Operand& b, const Operand& c) {
  const auto call = [&](int64_t item, int64_t head, int64_t count, auto stride) {
    MatmulArgs args{a.at(item, head), b.at(item, head), c.at(item, head), count};
    args.a.batch_stride = stride(a), args.b.batch_stride = stride(b), args.c.batch_stride = stride(c);
    matmul(args);
  };
  for (int64_t item = chunk.item; item < chunk.item + chunk.items;) {
    int64_t end = chunk.item + chunk.items;
    for (const Operand* x : {&a, &b, &c}) end = x->end_of_even(item, end);
    const int64_t items = end - item;
    if (items >= chunk.heads) {
      for (int64_t h = chunk.head; h < chunk.head + chunk.heads; ++h)
        call(item, h, items, [](const Operand& x) { return x.batch; });
    } else {
      for (; item < end; ++item) call(item, chunk.head, chunk.heads, [](const Operand& x) { return x.head; });
    }
    item = end;
  }
}

template <class T> class Attention {
  using C = compute_t<T>;
  static constexpr int V = 16 / sizeof(C);

 public:
  explicit Attention(const AttentionProblem& problem) : p_(problem), pitch_((p_.keys + V - 1) / V * V) {
    // A row of scores is held by its threads before its place is written to, unless it is too long.
    const bool held = pitch_ * static_cast<int64_t>(sizeof(C)) <= 24 * 1024;
    in_place_ = std::is_same_v<T, C> || held;
  }

  void forward(const detail::AttentionForward<T>& f) {
    const Scratch scores(buffer_bytes(1)), apart(in_place_ ? 1 : buffer_bytes(1));
    for_chunks(1, [&](const Chunk& chunk) {
      const Operand s = buffer(scores, dtype_of<C>, chunk), dropped = result(scores, apart, chunk);
      products(chunk, rows(f.q, p_.queries, p_.dim), transposed(rows(f.k, p_.keys, p_.dim)), s);
      AttentionRows<T> args = row_args(chunk, scores);
      args.dropped = static_cast<T*>(const_cast<void*>(dropped.matrix.data));
      args.sums = f.sums;
      run(args);
      products(chunk, dropped, rows(f.v, p_.keys, p_.value_dim), rows(f.out, p_.queries, p_.value_dim));
      mend(args, args.dropped, f.v, f.out, p_.value_dim);
    });
  }

  void backward(const detail::AttentionBackward<T>& f) {
    const int64_t bytes = buffer_bytes(2), more = in_place_ ? 1 : bytes;
    const Scratch scores(bytes), grads(bytes), apart(more), grads_apart(more);
    const Operand q = rows(f.q, p_.queries, p_.dim), k = rows(f.k, p_.keys, p_.dim);
    const Operand g = rows(f.g, p_.queries, p_.value_dim);
    for_chunks(2, [&](const Chunk& chunk) {
      products(chunk, q, transposed(k), buffer(scores, dtype_of<C>, chunk));
      products(chunk, g, transposed(rows(f.v, p_.keys, p_.value_dim)), buffer(grads, dtype_of<C>, chunk));
      const Operand dropped = result(scores, apart, chunk), ds = result(grads, grads_apart, chunk);
      AttentionRows<T> args = row_args(chunk, scores);
      args.backward = grads.as<C>();
      args.dropped = static_cast<T*>(const_cast<void*>(dropped.matrix.data));
      args.grads = static_cast<T*>(const_cast<void*>(ds.matrix.data));
      // With the output come shifts that are max + log(sum).
      args.sums = {const_cast<C*>(f.sums.shifts), f.out.data ? nullptr : const_cast<C*>(f.sums.sums)};
      run(args);
      if (f.dv.data) products(chunk, transposed(dropped), g, rows(f.dv, p_.keys, p_.value_dim));
      if (f.dk.data) products(chunk, transposed(ds), q, rows(f.dk, p_.keys, p_.dim));
      if (f.dq.data) {
        products(chunk, ds, k, rows(f.dq, p_.queries, p_.dim));
        mend(args, args.grads, f.k, f.dq, p_.dim);
      }
    });
  }

 private:
  int64_t head_bytes() const { return p_.queries * pitch_ * static_cast<int64_t>(sizeof(C)); }
  // Items of a chunk, and heads, for `buffers` of scores.
  Chunk largest_chunk(int buffers) const {
    const int64_t fit = std::max<int64_t>(
        1, backend({DeviceType::cuda}).part_bytes() / std::max<int64_t>(1, buffers * head_bytes()));
    const int64_t heads = std::max<int64_t>(1, p_.heads);
    const int64_t items = std::clamp<int64_t>(fit / heads, 1, std::max<int64_t>(1, p_.passes * p_.batch));
    return {0, items, 0, std::min(fit, heads)};
  }
  int64_t buffer_bytes(int buffers) const {
    const Chunk chunk = largest_chunk(buffers);
    return std::max<int64_t>(1, chunk.items * chunk.heads * head_bytes());
  }

  template <class F> void for_chunks(int buffers, F f) const {
    const Chunk largest = largest_chunk(buffers);
    const int64_t items = p_.passes * p_.batch;
    for (int64_t item = 0; item < items;) {
      // Rows of one launch belong to a few passes at most.
      const int64_t last_pass = item / p_.batch + detail::kAttentionPasses;
      const int64_t end = std::min({items, item + largest.items, last_pass * p_.batch});
      for (int64_t head = 0; head < p_.heads; head += largest.heads)
        f(Chunk{item, end - item, head, std::min(largest.heads, p_.heads - head)});
      item = end;
    }
  }

  template <class U> Operand rows(const HeadRows<U>& x, int64_t count, int64_t cols) const {
    return {{x.data, dtype_of<std::remove_const_t<U>>, count, cols, x.row, x.col, 0},
            x.pass,
            x.batch,
            x.head,
            p_.batch};
  }
  // A chunk's [items, heads, queries, keys] in a buffer whose rows have room for `pitch_` of C.
  Operand buffer(const Scratch& memory, DType dtype, const Chunk& chunk) const {
    const int64_t pitch = pitch_ * size_of(dtype_of<C>) / size_of(dtype), head = p_.queries * pitch;
    return {{memory.as<char>(), dtype, p_.queries, p_.keys, pitch, 1, 0},
            0,
            chunk.heads * head,
            head,
            0,
            chunk.item,
            chunk.head};
  }
  // What the kernel makes of scores: T in their place, or apart.
  Operand result(const Scratch& scores, const Scratch& apart, const Chunk& chunk) const {
    return buffer(in_place_ ? scores : apart, dtype_of<T>, chunk);
  }
  int64_t out_pitch() const { return pitch_ * static_cast<int64_t>(sizeof(C) / sizeof(T)); }

  AttentionRows<T> row_args(const Chunk& chunk, const Scratch& scores) const {
    AttentionRows<T> args{.first_item = chunk.item,
                          .items = chunk.items,
                          .first_head = chunk.head,
                          .heads = chunk.heads,
                          .queries = p_.queries,
                          .keys = p_.keys,
                          .batch = p_.batch,
                          .all_heads = p_.heads,
                          .scores = scores.as<C>(),
                          .pitch = pitch_,
                          .out_pitch = out_pitch(),
                          .ignored = p_.ignored,
                          .causal = p_.causal,
                          .scale = static_cast<C>(p_.scale),
                          .drops = p_.noise != nullptr,
                          .samples_per_item = p_.samples_per_item,
                          .first_pass = chunk.item / p_.batch};
    if (!p_.noise) return args;
    args.noise = device_noise(*p_.noise, p_.batch / p_.samples_per_item);
    for (int i = 0; i < detail::kAttentionPasses && args.first_pass + i < p_.passes; ++i) {
      const double rate = p_.noise->rates[args.first_pass + i];
      args.threshold[i] = drop_threshold(rate);
      args.kept[i] = static_cast<C>(kept_scale(rate));
    }
    return args;
  }

  static void run(const AttentionRows<T>& args) { device_kernel<AttentionRows<T>>(args); }
  // Where a query does not see every key: what those hold does not reach it.
  void mend(const AttentionRows<T>& args, const T* factors, const HeadRows<const T>& values,
            const HeadRows<T>& out, int64_t columns) const {
    if (p_.causal || p_.ignored.data)
      device_kernel<AttentionMend<T>>(AttentionMend<T>{args, factors, values, out, columns});
  }

  const AttentionProblem& p_;
  int64_t pitch_;
  bool in_place_;
};

template <class T> void forward(const detail::AttentionForward<T>& args) {
  if constexpr (std::is_same_v<T, bf16>) {
    // Which differentiate with the help of the result.
    *args.keeps_output = attention_by_library(args) || flash_attention(args);
    if (*args.keeps_output) return;
  }
  Attention<T>(args.problem).forward(args);
}
template <class T> void backward(const detail::AttentionBackward<T>& args) {
  if constexpr (std::is_same_v<T, bf16>) {
    if (attention_by_library(args) || flash_attention(args)) return;
  }
  Attention<T>(args.problem).backward(args);
}

template <class... T> void register_attention() {
  (register_kernel(forward<T>), ...);
  (register_kernel(backward<T>), ...);
}
const RegisterKernels registered{register_attention<bf16, float, double>};

}  // namespace
}  // namespace tandem::cuda
