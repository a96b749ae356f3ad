// Pieces of the segments of group norm and batch norm (ops/norms/channel_norm_args.h): what their sums are
// made over first, and the way from a piece to its group and its weight.
#pragma once

#include "cuda/divisor.cuh"
#include "cuda/rows.cuh"
#include "ops/norms/channel_norm_args.h"

namespace tandem::detail {

using cuda::Divisor;
using cuda::kThreads;

// A segment's pieces, of at most `length` elements each, and the way from a piece to its group and weight.
struct Pieces {
  ChannelGroups shape;
  int64_t length;
  Divisor parts, channels, samples, members;

  Pieces(const ChannelGroups& shape, int64_t length)
      : shape(shape),
        length(length),
        parts((shape.positions + length - 1) / length),
        channels(shape.channels),
        samples(shape.samples),
        members(shape.members()) {}
  __host__ __device__ int64_t count() const { return shape.segments() * parts.size; }

  struct Place {
    int64_t start, size;  // elements
    int64_t group, weight;
  };
  __device__ int64_t size_of(int64_t part) const {
    const int64_t rest = shape.positions - part * length;
    return rest < length ? rest : length;
  }
  __device__ Place locate(int64_t piece) const {
    const int64_t part = parts.divide(piece);  // piece is the segment now
    int64_t pass = piece, group = piece;
    const int64_t channel = channels.divide(pass);
    samples.divide(pass);
    const int64_t weight = pass * channels.size + channel;
    if (shape.groups) {
      members.divide(group);
    } else {
      group = weight;
    }
    return {piece * shape.positions + part * length, size_of(part), group, weight};
  }
  // The k-th piece of a group, and its part of the segment.
  __device__ int64_t of_group(int64_t group, int64_t k, int64_t& part) const {
    part = parts.divide(k);
    int64_t first = group;
    if (shape.groups) {
      first = group * members.size;
    } else {
      const int64_t channel = channels.divide(first);
      first = first * samples.size * channels.size + channel;
    }
    return (first + k * (shape.groups ? 1 : channels.size)) * parts.size + part;
  }
  __device__ int64_t pieces_of_group() const { return members.size * parts.size; }
};

// Pieces that a team of 256 threads holds in registers.
template <class T> Pieces pieces_of(const ChannelGroups& shape, bool vectors) {
  const int64_t most = vectors ? int64_t{1024} * 16 / static_cast<int64_t>(sizeof(T)) : 1024;
  return {shape, shape.positions < most ? shape.positions : most};
}

// Each element of a piece: out = f(x, ...) of the vectors at its place.
template <int V, class Team, class T, class F, class... In>
__device__ void map_piece(const Pieces::Place& place, T* out, F f, const In*... in) {
  const auto vectors = static_cast<int>(place.size / V);  // a piece is small
  for (int k = Team::rank(); k < vectors; k += Team::kSize)
    cuda::store_row<T, V>(out + place.start, k * V, f(cuda::load_row<In, V>(in + place.start, k * V)...));
}

}  // namespace tandem::detail
