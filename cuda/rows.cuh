// Rows held by a team of threads: read from memory once, however often a kernel goes over them. A thread has
// the same elements of a row each time, so going over them again needs no barrier.
#pragma once

#include "cuda/reduce.cuh"

namespace tandem::cuda {

template <class T, int V>
__device__ Vector<compute_t<T>, V> widen(const Vector<T, V>& values) {
  Vector<compute_t<T>, V> wide;
#pragma unroll
  for (int v = 0; v < V; ++v) wide.at[v] = static_cast<compute_t<T>>(values.at[v]);
  return wide;
}
template <class T, int V>
__device__ Vector<compute_t<T>, V> load_row(const T* x, int64_t i) {
  return widen<T, V>(*reinterpret_cast<const Vector<T, V>*>(x + i));
}
template <class T, int V>
__device__ void store_row(T* y, int64_t i, const Vector<compute_t<T>, V>& values) {
  Vector<T, V> narrow;
#pragma unroll
  for (int v = 0; v < V; ++v) narrow.at[v] = values.at[v];
  *reinterpret_cast<Vector<T, V>*>(y + i) = narrow;
}

// How a kernel holds rows: V elements are read and written at once. K > 0: in registers, up to K times V
// elements in each thread. K = 0: rows of any length, in shared memory where they fit, or else read again.
template <class TeamOf, int V_, int K_>
struct RowForm {
  using Team = TeamOf;
  static constexpr int V = V_, K = K_;
  static constexpr bool kRegisters = K > 0;
};

// One row of n values of T.
template <class Form, class T, bool registers = Form::kRegisters>
class HeldRow {
 public:
  using Values = Vector<compute_t<T>, Form::V>;
  __device__ HeldRow(const T* x, int64_t n, char*) {
#pragma unroll
    for (int k = 0; k < Form::K; ++k) {
      const int i = (k * Form::Team::kSize + Form::Team::rank()) * Form::V;
      if (i < n) values_[k] = load_row<T, Form::V>(x, i);
    }
  }
  __device__ Values& at(int k, int64_t) { return values_[k]; }  // what is written there stays

 private:
  Values values_[Form::K];
};

template <class Form, class T>
class HeldRow<Form, T, false> {
 public:
  using Values = Vector<compute_t<T>, Form::V>;
  // `room` for n values in shared memory, or null.
  __device__ HeldRow(const T* x, int64_t n, char* room) : values_(x) {
    if (!room) return;
    T* held = reinterpret_cast<T*>(room);
    values_ = held;
    using Raw = Vector<T, Form::V>;
    Form::Team::for_each(n / Form::V, [&](int64_t i) {
      reinterpret_cast<Raw*>(held)[i] = reinterpret_cast<const Raw*>(x)[i];
    });
  }
  __device__ Values at(int, int64_t i) const { return load_row<T, Form::V>(values_, i); }

 private:
  const T* values_;
};

// Calls f(i, values...) for the vectors that this thread holds of some rows, at their first element i.
template <class Form, class F, class... Row>
__device__ void each_vector(int64_t n, F f, Row&... rows) {
  if constexpr (Form::kRegisters) {
#pragma unroll
    for (int k = 0; k < Form::K; ++k) {
      const int i = (k * Form::Team::kSize + Form::Team::rank()) * Form::V;
      if (i < n) f(i, rows.at(k, i)...);
    }
  } else {
    Form::Team::for_each(n / Form::V, [&](int64_t k) { f(k * Form::V, rows.at(0, k * Form::V)...); });
  }
}

// A block's dynamic shared memory, and this team's part of it, `bytes` for each; null for 0.
__device__ inline char* block_room() {
  extern __shared__ __align__(16) char room[];
  return room;
}
template <class Team>
__device__ char* team_room(int bytes) {
  return bytes == 0 ? nullptr : block_room() + threadIdx.x / Team::kSize * bytes;
}

// Calls f.template operator()<Form>() with how rows of n values of T are best held; `vectors`: 16 bytes may
// be read and written at once (takes_row_vectors).
template <class T, class F>
void with_row_form(int64_t n, bool vectors, F&& f) {
  constexpr int V = 16 / sizeof(T), K = 4;
  const int64_t pieces = n / V;
  if (!vectors) {
    if (n <= 1024) {
      f.template operator()<RowForm<Team<32>, 1, 0>>();
    } else {
      f.template operator()<RowForm<Team<512>, 1, 0>>();
    }
  } else if (pieces <= 8 * K) {
    f.template operator()<RowForm<Team<8>, V, K>>();
  } else if (pieces <= 32 * K) {
    f.template operator()<RowForm<Team<32>, V, K>>();
  } else if (pieces <= 64 * K) {
    f.template operator()<RowForm<Team<64>, V, K>>();
  } else if (pieces <= 256 * K) {
    f.template operator()<RowForm<Team<256>, V, K>>();
  } else {
    f.template operator()<RowForm<Team<512>, V, 0>>();
  }
}

// Launches kernel(args, room bytes of a team) over rows for whose holding a team wants `bytes` of shared
// memory, if there is as much.
template <auto kernel, class Form, class Args>
void launch_rows(const char* name, const Args& args, int64_t rows, int64_t bytes) {
  using Team = typename Form::Team;
  bytes = Form::kRegisters ? 0 : (bytes + 15) / 16 * 16;
  if (bytes * Team::kRows > shared_limit()) bytes = 0;
  const int64_t shared = bytes * Team::kRows;
  const unsigned blocks =
      resident_blocks<kernel, Team::kBlock>((rows + Team::kRows - 1) / Team::kRows, shared);
  kernel<<<blocks, Team::kBlock, shared, stream()>>>(args, static_cast<int>(bytes));
  check_launch(name);
}

}  // namespace tandem::cuda
