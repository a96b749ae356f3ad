// Group norm and batch norm. A group of group norm is one row of memory, which a team of threads holds. The
// channels of batch norm are spread over the batch: pieces of segments are summed up first, then the pieces
// of a group, always in the same order, and a second sweep applies the result.
#include "ops/loops/column_sums.h"
#include "ops/norms/channel_pieces.cuh"

namespace tandem {
namespace {

using namespace detail;
using cuda::each_vector;
using cuda::HeldRow;

template <class A> struct Moments {
  A mean, squares;  // of the deviations
};
// Mean and squares of a row that is held.
template <class Form, class A, class Row> __device__ Moments<A> moments_of(Row& x, int64_t n) {
  const A mean = cuda::sum_row<Form, A>(
                     n, [](A value) { return value; }, x) /
                 static_cast<A>(n);
  const A squares = cuda::sum_row<Form, A>(
      n, [=](A value) { return (value - mean) * (value - mean); }, x);
  return {mean, squares};
}

template <class T> struct MomentsArgs {
  Pieces pieces;
  const T* x;
  Moments<accumulate_t<T>>* out;
};
template <class T, class Form>
__global__ void __launch_bounds__(Form::Team::kBlock) moments_kernel(MomentsArgs<T> a, int room_bytes) {
  using Team = typename Form::Team;
  char* room = cuda::team_room<Team>(room_bytes);
  Team::for_each_row(a.pieces.count(), [&](int64_t piece, bool live) {
    const Pieces::Place place = a.pieces.locate(piece);
    HeldRow<Form, T> x(a.x + place.start, place.size, room, room ? place.size : 0);
    const auto moments = moments_of<Form, accumulate_t<T>>(x, place.size);
    if (live && Team::rank() == 0) a.out[piece] = moments;
  });
}

// The moments of a group's pieces, joined (Chan, Golub & LeVeque 1979).
template <class A>
__global__ void __launch_bounds__(kThreads)
    join_kernel(Pieces pieces, const Moments<A>* parts, A eps, const A* weight, A* mean, A* var, A* scale) {
  using Team = cuda::Team<cuda::kWarp>;
  const int64_t count = pieces.pieces_of_group();
  using W = wide_t<A>;
  const W n = static_cast<W>(pieces.members.size * pieces.shape.positions);
  Team::for_each_row(pieces.shape.count(), [&](int64_t group, bool) {
    W total = 0, squares = 0;
    int64_t part;
    Team::for_each(count, [&](int64_t k) {
      const int64_t at = pieces.of_group(group, k, part);
      total += static_cast<W>(parts[at].mean) * static_cast<W>(pieces.size_of(part));
    });
    const W m = Team::sum(total) / n;
    Team::for_each(count, [&](int64_t k) {
      const Moments<A> piece = parts[pieces.of_group(group, k, part)];
      squares += piece.squares + (piece.mean - m) * (piece.mean - m) * static_cast<W>(pieces.size_of(part));
    });
    const A v = static_cast<A>(Team::sum(squares) / n);
    if (Team::rank() != 0) return;
    mean[group] = static_cast<A>(m), var[group] = v;
    scale[group] = weight[group] / sqrt(v + eps);  // batch norm: a group is a channel
  });
}

template <class T, int V, int size>
__global__ void __launch_bounds__(cuda::Team<size>::kBlock)
    apply_kernel(ChannelNormArgs<T> a, Pieces pieces, const accumulate_t<T>* scales) {
  using A = accumulate_t<T>;
  using Team = cuda::Team<size>;
  Team::for_each_row(pieces.count(), [&](int64_t piece, bool live) {
    if (!live) return;
    const Pieces::Place place = pieces.locate(piece);
    const A mean = a.mean[place.group], scale = scales[place.group], shift = a.bias[place.weight];
    map_piece<V, Team>(
        place, a.y,
        [&](auto v) {
#pragma unroll
          for (A& value : v.at) value = (value - mean) * scale + shift;
          return v;
        },
        a.x);
  });
}

// A whole group at a time: group norm's are rows of memory.
template <class T, class Form>
__global__ void __launch_bounds__(Form::Team::kBlock)
    group_kernel(ChannelNormArgs<T> a, Divisor positions, Divisor groups, Divisor samples, int room_bytes) {
  using A = accumulate_t<T>;
  using Team = typename Form::Team;
  constexpr int V = Form::V;
  char* room = cuda::team_room<Team>(room_bytes);
  const int64_t members = a.shape.members(), n = members * positions.size;
  Team::for_each_row(a.shape.count(), [&](int64_t group, bool live) {
    HeldRow<Form, T> x(a.x + group * n, n, room, room ? n : 0);
    const Moments<A> moments = moments_of<Form, A>(x, n);
    const A var = moments.squares / static_cast<A>(n), rstd = 1 / sqrt(var + static_cast<A>(a.eps));
    if (!live) return;
    int64_t pass = group;
    const int64_t within = groups.divide(pass);
    samples.divide(pass);
    const int64_t weights = pass * a.shape.channels + within * members;
    T* y = a.y + group * n;
    each_vector<Form>(
        n,
        [&](int64_t i, auto v) {
          int64_t channel = i;
          positions.divide(channel);
          const A scale = a.weight[weights + channel] * rstd, shift = a.bias[weights + channel];
#pragma unroll
          for (int l = 0; l < V; ++l) v.at[l] = (v.at[l] - moments.mean) * scale + shift;
          cuda::store_row<T, V>(y, i, v);
        },
        x);
    if (Team::rank() == 0) a.mean[group] = moments.mean, a.var[group] = var;
  });
}

template <class T> void launch_groups(const ChannelNormArgs<T>& a) {
  constexpr int V = 16 / sizeof(T);
  const ChannelGroups& s = a.shape;
  const int64_t n = s.members() * s.positions;
  const bool vectors = s.positions % V == 0 && cuda::takes_row_vectors<V>(n, a.x, a.y);
  cuda::with_row_form<T>(n, vectors, [&]<class Form>() {
    using Team = typename Form::Team;
    int64_t room = Form::kRegisters ? 0 : (n * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
    if (room * Team::kRows > cuda::shared_limit()) room = 0;
    cuda::launch<group_kernel<T, Form>>("group_norm", Team::blocks_for(s.count(), room * Team::kRows), a,
                                        Divisor(s.positions), Divisor(s.groups), Divisor(s.samples),
                                        static_cast<int>(room));
  });
}

template <class T> void launch_forward(const ChannelNormArgs<T>& a) {
  using A = accumulate_t<T>;
  constexpr int V = 16 / sizeof(T);
  const ChannelGroups& s = a.shape;
  if (s.segments() == 0 || s.positions == 0) return;
  if (s.groups) return launch_groups(a);
  const bool vectors = cuda::takes_row_vectors<V>(s.positions, a.x, a.y);
  const Pieces pieces = pieces_of<T>(s, vectors);
  const cuda::Scratch moments(pieces.count() * static_cast<int64_t>(sizeof(Moments<A>))),
      scales(s.count() * static_cast<int64_t>(sizeof(A)));
  cuda::with_row_form<T>(pieces.length, vectors, [&]<class Form>() {
    cuda::launch_rows<moments_kernel<T, Form>, Form>(
        "batch_norm: moments", MomentsArgs<T>{pieces, a.x, moments.as<Moments<A>>()}, pieces.count(),
        pieces.length * static_cast<int64_t>(sizeof(T)));
  });
  cuda::launch<join_kernel<A>>("batch_norm: join", cuda::Team<cuda::kWarp>::blocks_for(s.count()), pieces,
                               moments.as<Moments<A>>(), static_cast<A>(a.eps), a.weight, a.mean, a.var,
                               scales.as<A>());
  const auto apply = [&]<int W>() {
    cuda::with_team(pieces.length / W, [&]<int size>() {
      cuda::launch<apply_kernel<T, W, size>>("batch_norm", cuda::Team<size>::blocks_for(pieces.count()), a,
                                             pieces, scales.as<A>());
    });
  };
  vectors ? apply.template operator()<V>() : apply.template operator()<1>();
}

const RegisterKernels registered{
    [] { cuda::for_floats([]<class T>() { register_kernel(launch_forward<T>); }); }};

}  // namespace
}  // namespace tandem
