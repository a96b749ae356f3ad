// The gradient of layer norm and RMS norm. A team of threads holds a row of x and of g, a block takes a fixed
// chunk of rows: each thread adds up the weights' gradients of its own columns, and the chunks' sums are
// added in their order.
#include <type_traits>

#include "cuda/columns.cuh"
#include "cuda/rows.cuh"
#include "ops/loops/column_sums.h"
#include "ops/residual_kernel.h"

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

// Rows of bf16 are held by twice as many threads: x, g and two sums of each column are in registers.
template <class T, class Form> struct GradForm { using type = Form; };
template <int size, int V, int K> struct GradForm<bf16, cuda::RowForm<cuda::Team<size>, V, K>> {
  using type = std::conditional_t<(K > 0), cuda::RowForm<cuda::Team<2 * size>, V, K / 2>,
                                  cuda::RowForm<cuda::Team<size>, V, K>>;
};

// A block's chunk of rows, and where its sums go: two matrices [passes * chunks, n].
template <class T> struct NormChunks {
  int64_t chunk, chunks;  // rows of one, number of a pass's
  accumulate_t<T>* sums[2];
};

// Whether a block's sums go straight from registers to memory: those of one team, in vectors that one instruction
// stores. Wider ones would each time leave half of what is between them.
template <class Form, class A>
inline constexpr bool kStoresSums = Form::Team::kRows == 1 && Form::V * sizeof(A) <= 16;

// Shared memory of a team: its row of x and of g, then its sums. Without any, its sums are the block's, in
// global memory.
template <class Form, class T, class G> __host__ __device__ int64_t grad_room(int64_t n, int64_t* sums_at) {
  using A = accumulate_t<T>;
  const int64_t line = n * static_cast<int64_t>(sizeof(A));
  if (Form::kRegisters) {
    *sums_at = 0;
    return kStoresSums<Form, A> ? 0 : line;
  }
  *sums_at = (n * static_cast<int64_t>(sizeof(T) + sizeof(G)) + 15) / 16 * 16;
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
  } else if constexpr (kStoresSums<Form, A>) {
    each_vector<Form>(
        n,
        [&](int64_t i, const auto& dws, const auto& dbs) {
          cuda::store_vector<V>(sums[0] + i, dws);
          if (outputs == 2) cuda::store_vector<V>(sums[1] + i, dbs);
        },
        dw, db);
  } else {
    A* shared = reinterpret_cast<A*>(room);
    const auto store = [&](auto& totals, A* to) {
      __syncthreads();
      each_vector<Form>(
          n, [&](int64_t i, const auto& values) { vector_at<V>(shared, i) = values; }, totals);
      __syncthreads();
      add_teams<Team>(cuda::block_room(), room_bytes, n, to);
    };
    store(dw, sums[0]);
    if (outputs == 2) store(db, sums[1]);
  }
}

// What else is made of a row's dx: nothing, ...
struct NoBranch {
  struct Row {
    template <class Values> __device__ void operator()(int64_t, const Values&) const {}
  };
  __device__ int draws() const { return 0; }
  __device__ Row row(int, int64_t, int64_t, int64_t, int64_t) const { return {}; }
};

// ... or, of a residual sum, the gradient of its branch.
template <class Z> struct DroppedBranch {
  Z* dz;
  BranchNoise of;
  cuda::Divisor rows_of_sample;

  struct Row {
    Z* dz;
    DeviceNoise::Draws draws;
    uint32_t pass, threshold;
    float scale;
    uint64_t sample, first;  // block of draws of the row's first four values

    __device__ void operator()(int64_t i, Vector<float, 4> values) const {
      const auto words = draws.block(pass, sample, first + static_cast<uint64_t>(i) / 4);
#pragma unroll
      for (int l = 0; l < 4; ++l) {
        const float scaled = values.at[l] * scale;
        values.at[l] = words[l] >= threshold ? scaled : 0.0f;
      }
      cuda::store_row<Z, 4>(dz, i, values);
    }
  };
  __device__ DeviceNoise::Draws draws() const { return of.noise.draws(); }
  // Of row `of_pass` of a pass, the row-th of all, of n values.
  __device__ Row row(const DeviceNoise::Draws& draws, int64_t row, int64_t pass, int64_t of_pass,
                     int64_t n) const {
    int64_t sample = of_pass;
    const int64_t within = rows_of_sample.divide(sample);
    return {dz + row * n,
            draws,
            static_cast<uint32_t>(pass),
            of.threshold[pass],
            of.scale[pass],
            static_cast<uint64_t>(sample),
            static_cast<uint64_t>(within * n / 4)};
  }
};

// dx = rstd (g w - shift - (x - mean) slope) for a held row of g and of x, which is added where `adds`.
template <class Form, class T, class A, class Gradients, class Row, class Also>
__device__ void write_gradient(T* dx, bool adds, int64_t n, const A* w, A mean, A rstd, A shift, A slope,
                               Gradients& g, Row& x, const Also& also) {
  constexpr int V = Form::V;
  each_vector<Form>(
      n,
      [&](int64_t i, auto gs, const auto& xs) {
        const Vector<A, V> scale = cuda::load_vector<V>(w + i),
                           before = adds ? cuda::load_row<T, V>(dx, i) : Vector<A, V>{};
#pragma unroll
        for (int l = 0; l < V; ++l)
          gs.at[l] = before.at[l] + rstd * (gs.at[l] * scale.at[l] - shift - (xs.at[l] - mean) * slope);
        cuda::store_row<T, V>(dx, i, gs);
        also(i, gs);
      },
      g, x);
}

template <class T, class G, class Form, class Branch>
__global__ void __launch_bounds__(Form::Team::kBlock, cuda::kLeastBlocks<Form, T>)
    norm_grad_kernel(NormRowsGrad<T, G> args, NormChunks<T> chunks, int room_bytes,
                     const __grid_constant__ Branch branch) {
  using A = accumulate_t<T>;
  using Team = typename Form::Team;
  constexpr int V = Form::V;
  const int64_t n = args.n, pass = blockIdx.x / chunks.chunks,
                first = blockIdx.x % chunks.chunks * chunks.chunk,
                last = first + chunks.chunk < args.rows ? first + chunks.chunk : args.rows;
  const bool weights = args.dweight != nullptr;
  int64_t sums_at = 0;
  grad_room<Form, T, G>(n, &sums_at);
  char* room = cuda::team_room<Team>(room_bytes);
  A* sums[2] = {chunks.sums[0] + blockIdx.x * n, chunks.sums[1] + blockIdx.x * n};
  A* own = room ? reinterpret_cast<A*>(room + sums_at) : sums[0];
  ColumnTotals<Form, A> dw(n, weights ? own : nullptr), db(n, weights ? (room ? own + n : sums[1]) : nullptr);
  const A* w = args.weight + pass * args.weight_pass;
  const auto draws = branch.draws();
  for (int64_t base = first; base < last; base += Team::kRows) {
    const int64_t wanted = base + threadIdx.x / Team::kSize;
    const bool live = wanted < last;  // or else a row that is there, for the reductions' sake
    const int64_t of_pass = live ? wanted : last - 1, row = pass * args.rows + of_pass;
    HeldRow<Form, T> x(args.x + row * n, n, room, room ? n : 0);
    HeldRow<Form, G> g(args.g + row * n, n, room ? room + n * sizeof(T) : nullptr, room ? n : 0);
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
    write_gradient<Form>(args.dx + row * n, args.adds, n, w, mean, rstd, shift, slope, g, x,
                         branch.row(draws, row, pass, of_pass, n));
  }
  if (weights) store_totals<Form>(dw, db, args.dbias ? 2 : 1, n, sums, room, room_bytes, sums_at);
}

template <class T, class G, class Form, class Branch = NoBranch>
void launch_with(const NormRowsGrad<T, G>& args, const Branch& branch = {}) {
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
    int64_t unused = 0, room = grad_room<Form, T, G>(args.n, &unused);
    if (room * Team::kRows > cuda::shared_limit()) room = 0;
    constexpr auto kernel = norm_grad_kernel<T, G, Form, Branch>;
    const cuda::Grid grid{static_cast<unsigned>(args.passes * chunks), Team::kBlock, room * Team::kRows};
    cuda::resident_blocks<kernel, Team::kBlock>(1, grid.shared_bytes);  // lets it have the shared memory
    cuda::launch<kernel>("norm_grad", grid, args, NormChunks<T>{chunk, chunks, {parts, parts + sums}},
                         static_cast<int>(room), branch);
  }
  const int64_t groups = args.weight_pass == 0 ? 1 : args.passes;
  if (args.dweight)
    cuda::column_sums<A>(
        {{parts, parts + sums}, {args.dweight, args.dbias}, groups, args.passes * chunks / groups, args.n},
        args.dbias ? 2 : 1);
}

template <class T, class G> void launch(const NormRowsGrad<T, G>& args) {
  constexpr int V = 16 / sizeof(T);
  const bool vectors = cuda::takes_row_vectors<V>(args.n, args.x, args.g, static_cast<const T*>(args.dx)) &&
                       cuda::takes_row_vectors<V>(args.n, args.weight);
  cuda::with_row_form<T>(args.n, vectors, [&]<class Given>() {
    using Form = typename GradForm<T, Given>::type;
    int64_t unused;
    // Teams that share a block have their sums in shared memory.
    const bool fits = grad_room<Form, T, G>(args.n, &unused) * Form::Team::kRows <= cuda::shared_limit();
    if constexpr (Form::kRegisters || Form::Team::kRows == 1) {
      launch_with<T, G, Form>(args);
    } else if (fits) {
      launch_with<T, G, Form>(args);
    } else {
      launch_with<T, G, cuda::RowForm<cuda::Team<512>, 1, 0>>(args);
    }
  });
}

// Of rows that the kernel which made the sum could hold.
template <class G, class Z> void launch_residual(const ResidualNormGrad<G, Z>& args) {
  cuda::with_row_form<float>(args.n, true, [&]<class Form>() {
    if constexpr (Form::kRegisters)
      launch_with<float, G, Form>(
          args, DroppedBranch<Z>{args.dz, args.branch, cuda::Divisor(args.branch.rows_of_sample)});
  });
}

const RegisterKernels registered{[] {
  cuda::for_floats([]<class T>() { register_kernel(launch<T, T>); });
  register_kernel(launch<float, bf16>);
  register_kernel(launch_residual<float, float>);
  register_kernel(launch_residual<float, bf16>);
  register_kernel(launch_residual<bf16, float>);
  register_kernel(launch_residual<bf16, bf16>);
}};

}  // namespace
}  // namespace tandem
