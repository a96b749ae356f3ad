// The gradients of group norm and batch norm: two sums over every piece give everything, those of g and of
// g xhat. They add up, weighted, to what dx needs of a group and, as they are, to the gradients of weight and
// bias of a channel.
#include "ops/loops/column_sums.h"
#include "ops/norms/channel_pieces.cuh"

namespace tandem {
namespace {

using namespace detail;

template <class A> struct Sums {
  A g, dot;  // of g, and of g xhat
};
struct AddSums {
  template <class A> __device__ Sums<A> operator()(Sums<A> a, Sums<A> b) const {
    return {a.g + b.g, a.dot + b.dot};
  }
};

template <class T, int V, int size>
__global__ void __launch_bounds__(cuda::Team<size>::kBlock)
    sums_kernel(ChannelNormGradArgs<T> a, Pieces pieces, accumulate_t<T> eps, Sums<accumulate_t<T>>* out) {
  using A = accumulate_t<T>;
  using Team = cuda::Team<size>;
  Team::for_each_row(pieces.count(), [&](int64_t piece, bool live) {
    const Pieces::Place place = pieces.locate(piece);
    const A mean = a.mean[place.group], rstd = 1 / sqrt(a.var[place.group] + eps);
    Sums<A> sums{};
    Team::for_each(place.size / V, [&](int64_t k) {
      const auto g = cuda::load_row<T, V>(a.g, place.start + k * V),
                 x = cuda::load_row<T, V>(a.x, place.start + k * V);
#pragma unroll
      for (int l = 0; l < V; ++l) {
        sums.g += g.at[l];
        sums.dot += g.at[l] * (x.at[l] - mean);
      }
    });
    sums = Team::reduce(sums, AddSums{});
    if (live && Team::rank() == 0) out[piece] = {sums.g, sums.dot * rstd};
  });
}

// The means, over a group, of g w and of g w xhat.
template <class A>
__global__ void __launch_bounds__(kThreads)
    group_means_kernel(Pieces pieces, const Sums<A>* sums, const A* weight, Sums<A>* means) {
  using Team = cuda::Team<cuda::kWarp>;
  const auto n = static_cast<wide_t<A>>(pieces.members.size * pieces.shape.positions);
  Team::for_each_row(pieces.shape.count(), [&](int64_t group, bool) {
    Sums<wide_t<A>> total{};
    Team::for_each(pieces.pieces_of_group(), [&](int64_t k) {
      int64_t part;
      const int64_t piece = pieces.of_group(group, k, part);
      const A w = weight[pieces.locate(piece).weight];
      total.g += w * sums[piece].g, total.dot += w * sums[piece].dot;
    });
    total = Team::reduce(total, AddSums{});
    if (Team::rank() == 0) means[group] = {static_cast<A>(total.g / n), static_cast<A>(total.dot / n)};
  });
}

// The sums of a channel over the samples of a pass.
template <class A>
__global__ void __launch_bounds__(kThreads)
    channel_sums_kernel(Pieces by_channels, const Sums<A>* sums, A* dweight, A* dbias) {
  using Team = cuda::Team<cuda::kWarp>;
  Team::for_each_row(by_channels.shape.count(), [&](int64_t channel, bool) {
    Sums<wide_t<A>> total{};
    Team::for_each(by_channels.pieces_of_group(), [&](int64_t k) {
      int64_t part;
      const Sums<A> piece = sums[by_channels.of_group(channel, k, part)];
      total.g += piece.g, total.dot += piece.dot;
    });
    total = Team::reduce(total, AddSums{});
    if (Team::rank() != 0) return;
    dweight[channel] = static_cast<A>(total.dot), dbias[channel] = static_cast<A>(total.g);
  });
}

// dx = rstd (g w - mean(g w) - xhat mean(g w xhat)).
template <class T, int V, int size>
__global__ void __launch_bounds__(cuda::Team<size>::kBlock)
    grad_kernel(ChannelNormGradArgs<T> a, Pieces pieces, accumulate_t<T> eps,
                const Sums<accumulate_t<T>>* means) {
  using A = accumulate_t<T>;
  using Team = cuda::Team<size>;
  Team::for_each_row(pieces.count(), [&](int64_t piece, bool live) {
    if (!live) return;
    const Pieces::Place place = pieces.locate(piece);
    const A mean = a.mean[place.group], rstd = 1 / sqrt(a.var[place.group] + eps), w = a.weight[place.weight];
    const A shift = means[place.group].g, slope = means[place.group].dot * rstd;
    map_piece<V, Team>(
        place, a.dx,
        [&](auto g, const auto& x) {
#pragma unroll
          for (int l = 0; l < V; ++l) g.at[l] = rstd * (g.at[l] * w - shift - (x.at[l] - mean) * slope);
          return g;
        },
        a.g, a.x);
  });
}

template <class T> void launch_backward(const ChannelNormGradArgs<T>& a) {
  using A = accumulate_t<T>;
  constexpr int V = 16 / sizeof(T);
  const ChannelGroups& s = a.shape;
  if (s.segments() == 0 || s.positions == 0) {
    const size_t bytes = s.passes * s.channels * sizeof(A);
    if (a.dweight && bytes > 0) {
      cuda::check(cudaMemsetAsync(a.dweight, 0, bytes, cuda::stream()), "cudaMemsetAsync");
      cuda::check(cudaMemsetAsync(a.dbias, 0, bytes, cuda::stream()), "cudaMemsetAsync");
    }
    return;
  }
  const bool vectors = cuda::takes_row_vectors<V>(s.positions, a.x, a.g, a.dx);
  const Pieces pieces = pieces_of<T>(s, vectors);
  const cuda::Scratch memory((pieces.count() + s.count()) * static_cast<int64_t>(sizeof(Sums<A>)));
  auto* sums = memory.as<Sums<A>>();
  auto* means = sums + pieces.count();
  const A eps = static_cast<A>(a.eps);
  const auto over_pieces = [&](auto launch) {
    const auto with = [&]<int W>() {
      cuda::with_team(pieces.length / W, [&]<int size>() { launch.template operator()<W, size>(); });
    };
    vectors ? with.template operator()<V>() : with.template operator()<1>();
  };
  over_pieces([&]<int W, int size>() {
    cuda::launch<sums_kernel<T, W, size>>("channel_norm_grad: sums",
                                          cuda::Team<size>::blocks_for(pieces.count()), a, pieces, eps, sums);
  });
  using Warp = cuda::Team<cuda::kWarp>;
  if (a.dweight) {
    ChannelGroups by_channels = s;
    by_channels.groups = 0;
    cuda::launch<channel_sums_kernel<A>>("channel_norm_grad: weights", Warp::blocks_for(by_channels.count()),
                                         Pieces(by_channels, pieces.length), sums, a.dweight, a.dbias);
  }
  if (!a.dx) return;
  cuda::launch<group_means_kernel<A>>("channel_norm_grad: means", Warp::blocks_for(s.count()), pieces, sums,
                                      a.weight, means);
  over_pieces([&]<int W, int size>() {
    cuda::launch<grad_kernel<T, W, size>>("channel_norm_grad", cuda::Team<size>::blocks_for(pieces.count()),
                                          a, pieces, eps, means);
  });
}

const RegisterKernels registered{
    [] { cuda::for_floats([]<class T>() { register_kernel(launch_backward<T>); }); }};

}  // namespace
}  // namespace tandem
