// Layer norm and RMS norm. A team of threads holds a row, so that memory is read and written once. In the
// backward a block takes a fixed chunk of rows: each thread adds up the weights' gradients of its own
// columns, and the chunks' sums are added in their order.
#include <limits>

#include "cuda/columns.cuh"
#include "cuda/rows.cuh"
#include "ops/loops/column_sums.h"
#include "ops/norms/row_norm_args.h"

namespace tandem {
namespace {

using namespace detail;
using cuda::each_vector;
using cuda::HeldRow;
using cuda::Vector;

// V values at p + i, of shared memory or to be added to.
template <int V, class A> __device__ Vector<A, V>& vector_at(A* p, int64_t i) {
  return *reinterpret_cast<Vector<A, V>*>(p + i);
}

// Whether it holds of the row of any of the teams that have to reduce together, as those of a warp have.
template <class Team> __device__ bool any_row(bool holds) {
  return Team::kSize < cuda::kWarp ? __any_sync(cuda::kWholeWarp, holds) != 0 : holds;
}

template <class A> struct Statistics { A mean, rstd; };
// Of a row whose sum, or squares, overflow: relative to its largest value. NaN where that is not finite.
template <class Form, class A, class Row>
__device__ Statistics<A> huge_statistics(Row& x, int64_t n, bool centred, A eps) {
  A largest = 0;
  each_vector<Form>(
      n,
      [&](int64_t, const auto& v) {
#pragma unroll
        for (const A value : v.at) largest = cuda::Larger{}(largest, static_cast<A>(fabs(value)));
      },
      x);
  largest = Form::Team::max(largest);
  const A by = 1 / largest;
  A mean = 0;
  if (centred)
    mean = cuda::sum_row<Form, A>(
               n, [=](A value) { return value * by; }, x) /
           static_cast<A>(n);
  const A squares = cuda::sum_row<Form, A>(
      n, [=](A value) { return (value * by - mean) * (value * by - mean); }, x);
  return {mean * largest, rstd_of_huge(largest, squares / static_cast<A>(n), eps)};
}

template <class T, class Form>
__global__ void __launch_bounds__(Form::Team::kBlock, cuda::kLeastBlocks<Form, T>)
    norm_kernel(NormRows<T> args, int room_bytes) {
  using A = accumulate_t<T>;
  using Team = typename Form::Team;
  constexpr int V = Form::V;
  const int64_t n = args.n;
  char* room = cuda::team_room<Team>(room_bytes);
  Team::for_each_row(args.passes * args.rows, [&](int64_t row, bool live) {
    HeldRow<Form, T> x(args.x + row * n, n, room, cuda::values_in<Form, T>(n, room_bytes));
    A mean = 0;
    if (args.centred)
      mean = cuda::sum_row<Form, A>(
                 n, [](A value) { return value; }, x) /
             static_cast<A>(n);
    const A squares = cuda::sum_row<Form, A>(
        n, [=](A value) { return (value - mean) * (value - mean); }, x);
    A rstd = 1 / sqrt(squares / static_cast<A>(n) + args.eps);
    const bool huge = !(squares <= std::numeric_limits<A>::max());
    if (any_row<Team>(huge)) [[unlikely]] {
      const Statistics<A> found = huge_statistics<Form, A>(x, n, args.centred, args.eps);
      if (huge) mean = found.mean, rstd = found.rstd;
    }
    if (!live) return;
    const int64_t pass = args.passes == 1 ? 0 : row / args.rows;
    const A *w = args.weight + pass * n, *b = args.bias ? args.bias + pass * n : nullptr;
    T* y = args.y + row * n;
    each_vector<Form>(
        n,
        [&](int64_t i, auto v) {
          const Vector<A, V> scale = cuda::load_vector<V>(w + i),
                             shift = b ? cuda::load_vector<V>(b + i) : Vector<A, V>{};
#pragma unroll
          for (int l = 0; l < V; ++l) v.at[l] = (v.at[l] - mean) * rstd * scale.at[l] + shift.at[l];
          cuda::store_row<T, V>(y, i, v);
        },
        x);
    if (Team::rank() == 0) args.mean[row] = mean, args.rstd[row] = rstd;
  });
}

template <class T> void launch_norm(const NormRows<T>& args) {
  const int64_t rows = args.passes * args.rows;
  if (rows == 0) return;
  constexpr int V = 16 / sizeof(T);
  const bool vectors = cuda::takes_row_vectors<V>(args.n, args.x, args.y) &&
                       cuda::takes_row_vectors<V>(args.n, args.weight, args.bias);
  cuda::with_row_form<T>(args.n, vectors, [&]<class Form>() {
    cuda::launch_rows<norm_kernel<T, Form>, Form>("norm", args, rows,
                                                  args.n * static_cast<int64_t>(sizeof(T)), true);
  });
}

// Sums that a thread adds to, for the columns that it has: in registers, or in memory of the team.
template <class Form, class A, bool registers = Form::kRegisters> class ColumnTotals {
 public:
  __device__ ColumnTotals(int64_t, A*) {}
  __device__ Vector<A, Form::V>& at(int k, int64_t) { return values_[k]; }

 private:
  Vector<A, Form::V> values_[Form::K] = {};
};
template <class Form, class A> class ColumnTotals<Form, A, false> {
 public:
  __device__ ColumnTotals(int64_t n, A* memory) : values_(memory) {
    if (!memory) return;
    Form::Team::for_each(n / Form::V, [&](int64_t k) { at(0, k * Form::V) = {}; });
  }
  __device__ Vector<A, Form::V>& at(int, int64_t i) { return vector_at<Form::V>(values_, i); }

 private:
  A* values_;
};

// A block's chunk of rows, and where its sums go: two matrices [passes * chunks, n].
template <class T> struct NormChunks {
  int64_t chunk, chunks;  // rows of one, number of a pass's
  accumulate_t<T>* sums[2];
};

// Shared memory of a team: its row of x and of g, then its sums. Without any, its sums are the block's, in
// global memory.
template <class Form, class T> __host__ __device__ int64_t grad_room(int64_t n, int64_t* sums_at) {
  using A = accumulate_t<T>;
  const int64_t line = n * static_cast<int64_t>(sizeof(A));
  if (Form::kRegisters) {
    *sums_at = 0;
    return Form::Team::kRows == 1 ? 0 : line;
  }
  *sums_at = (2 * n * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
  return (*sums_at + 2 * line + 15) / 16 * 16;
}

// to[j] = the sum over the block's teams of from[j], `stride` bytes from one to the next.
template <class Team, class A> __device__ void add_teams(const char* from, int stride, int64_t n, A* to) {
  for (int64_t j = threadIdx.x; j < n; j += Team::kBlock) {
    A sum = 0;
#pragma unroll
    for (int team = 0; team < Team::kRows; ++team) sum += reinterpret_cast<const A*>(from + team * stride)[j];
    to[j] = sum;
  }
}

// The sums of a block's rows, from those of its teams, one or two of them: dw's, then db's.
template <class Form, class A>
__device__ void store_totals(ColumnTotals<Form, A>& dw, ColumnTotals<Form, A>& db, int outputs, int64_t n,
                             A* const (&sums)[2], char* room, int room_bytes, int64_t sums_at) {
  using Team = typename Form::Team;
  constexpr int V = Form::V;
  if constexpr (!Form::kRegisters) {
    if (!room) return;
    __syncthreads();
    for (int k = 0; k < outputs; ++k)
      add_teams<Team>(cuda::block_room() + sums_at + k * n * sizeof(A), room_bytes, n, sums[k]);
  } else if constexpr (Team::kRows == 1) {
    each_vector<Form>(
        n,
        [&](int64_t i, const auto& dws, const auto& dbs) {
          cuda::store_vector<V>(sums[0] + i, dws);
          if (outputs == 2) cuda::store_vector<V>(sums[1] + i, dbs);
        },
        dw, db);
  } else {
    A* shared = reinterpret_cast<A*>(room);
    for (int k = 0; k < outputs; ++k) {
      __syncthreads();
      each_vector<Form>(
          n, [&](int64_t i, const auto& values) { vector_at<V>(shared, i) = values; }, k == 0 ? dw : db);
      __syncthreads();
      add_teams<Team>(cuda::block_room(), room_bytes, n, sums[k]);
    }
  }
}

// dx = rstd (g w - shift - (x - mean) slope) for a held row of g and of x.
template <class Form, class T, class A, class Row>
__device__ void write_gradient(T* dx, int64_t n, const A* w, A mean, A rstd, A shift, A slope, Row& g,
                               Row& x) {
  each_vector<Form>(
      n,
      [&](int64_t i, auto gs, const auto& xs) {
        const Vector<A, Form::V> scale = cuda::load_vector<Form::V>(w + i);
#pragma unroll
        for (int l = 0; l < Form::V; ++l)
          gs.at[l] = rstd * (gs.at[l] * scale.at[l] - shift - (xs.at[l] - mean) * slope);
        cuda::store_row<T, Form::V>(dx, i, gs);
      },
      g, x);
}

template <class T, class Form>
__global__ void __launch_bounds__(Form::Team::kBlock, cuda::kLeastBlocks<Form, T>)
    norm_grad_kernel(NormRowsGrad<T> args, NormChunks<T> chunks, int room_bytes) {
  using A = accumulate_t<T>;
  using Team = typename Form::Team;
  constexpr int V = Form::V;
  const int64_t n = args.n, pass = blockIdx.x / chunks.chunks,
                first = blockIdx.x % chunks.chunks * chunks.chunk,
                last = first + chunks.chunk < args.rows ? first + chunks.chunk : args.rows;
  const bool weights = args.dweight != nullptr;
  int64_t sums_at = 0;
  grad_room<Form, T>(n, &sums_at);
  char* room = cuda::team_room<Team>(room_bytes);
  A* sums[2] = {chunks.sums[0] + blockIdx.x * n, chunks.sums[1] + blockIdx.x * n};
  A* own = room ? reinterpret_cast<A*>(room + sums_at) : sums[0];
  ColumnTotals<Form, A> dw(n, weights ? own : nullptr), db(n, weights ? (room ? own + n : sums[1]) : nullptr);
  const A* w = args.weight + pass * n;
  for (int64_t base = first; base < last; base += Team::kRows) {
    const int64_t wanted = base + threadIdx.x / Team::kSize;
    const bool live = wanted < last;  // or else a row that is there, for the reductions' sake
    const int64_t row = pass * args.rows + (live ? wanted : last - 1);
    HeldRow<Form, T> x(args.x + row * n, n, room, room ? n : 0),
        g(args.g + row * n, n, room ? room + n * sizeof(T) : nullptr, room ? n : 0);
    const A mean = args.mean[row], rstd = args.rstd[row];
    struct Sums {
      A a, dot;  // of a = g w, and of a xhat
    } total = {};
    const auto add = [&](int64_t i, const auto& gs, const auto& xs) {
      const Vector<A, V> scale = cuda::load_vector<V>(w + i);
#pragma unroll
      for (int l = 0; l < V; ++l) {
        const A a = gs.at[l] * scale.at[l];
        total.a += a;
        total.dot += a * ((xs.at[l] - mean) * rstd);
      }
    };
    if (weights && live) {
      each_vector<Form>(
          n,
          [&](int64_t i, const auto& gs, const auto& xs, auto& dws, auto& dbs) {
            add(i, gs, xs);
#pragma unroll
            for (int l = 0; l < V; ++l) {
              dws.at[l] += gs.at[l] * ((xs.at[l] - mean) * rstd);
              dbs.at[l] += gs.at[l];
            }
          },
          g, x, dw, db);
    } else {
      each_vector<Form>(n, add, g, x);
    }
    total = Team::reduce(total, [](Sums p, Sums q) { return Sums{p.a + q.a, p.dot + q.dot}; });
    if (!live || !args.dx) continue;
    const A shift = args.centred ? total.a / static_cast<A>(n) : A(0);
    const A slope = total.dot / static_cast<A>(n) * rstd;
    write_gradient<Form>(args.dx + row * n, n, w, mean, rstd, shift, slope, g, x);
  }
  if (weights) store_totals<Form>(dw, db, args.dbias ? 2 : 1, n, sums, room, room_bytes, sums_at);
}

template <class T, class Form> void launch_norm_grad(const NormRowsGrad<T>& args) {
  using A = accumulate_t<T>;
  using Team = typename Form::Team;
  // Long enough that the sums cost little beside the rows, short enough that many blocks are at work and sums
  // do not stop growing; of the shape alone, so that every device adds in the same order.
  const int64_t chunk = std::min<int64_t>(std::max<int64_t>({32, 4 * Team::kRows, (args.rows + 1023) / 1024}),
                                          kStretch * Team::kRows),
                chunks = (args.rows + chunk - 1) / chunk, sums = args.passes * chunks * args.n;
  const cuda::Scratch scratch(args.dweight ? 2 * sums * static_cast<int64_t>(sizeof(A)) : 1);
  A* const parts = scratch.as<A>();
  if (chunks * args.passes > 0 && args.n > 0) {
    int64_t unused = 0, room = grad_room<Form, T>(args.n, &unused);
    if (room * Team::kRows > cuda::shared_limit()) room = 0;
    constexpr auto kernel = norm_grad_kernel<T, Form>;
    const cuda::Grid grid{static_cast<unsigned>(args.passes * chunks), Team::kBlock, room * Team::kRows};
    cuda::resident_blocks<kernel, Team::kBlock>(1, grid.shared_bytes);  // lets it have the shared memory
    cuda::launch<kernel>("norm_grad", grid, args, NormChunks<T>{chunk, chunks, {parts, parts + sums}},
                         static_cast<int>(room));
  }
  if (args.dweight)
    cuda::column_sums<A>({{parts, parts + sums}, {args.dweight, args.dbias}, args.passes, chunks, args.n},
                         args.dbias ? 2 : 1);
}

template <class T> void choose_norm_grad(const NormRowsGrad<T>& args) {
  constexpr int V = 16 / sizeof(T);
  const bool vectors = cuda::takes_row_vectors<V>(args.n, args.x, args.g, args.dx) &&
                       cuda::takes_row_vectors<V>(args.n, args.weight);
  cuda::with_row_form<T>(args.n, vectors, [&]<class Form>() {
    int64_t unused;
    // Teams that share a block have their sums in shared memory.
    const bool fits = grad_room<Form, T>(args.n, &unused) * Form::Team::kRows <= cuda::shared_limit();
    if constexpr (Form::kRegisters || Form::Team::kRows == 1) {
      launch_norm_grad<T, Form>(args);
    } else if (fits) {
      launch_norm_grad<T, Form>(args);
    } else {
      launch_norm_grad<T, cuda::RowForm<cuda::Team<512>, 1, 0>>(args);
    }
  });
}

const RegisterKernels registered{[] {
  cuda::for_floats([]<class T>() {
    register_kernel(launch_norm<T>);
    register_kernel(choose_norm_grad<T>);
  });
}};

}  // namespace
}  // namespace tandem
