#include "autograd/error.h"
#include "cuda/map.cuh"
#include "cuda/sort.cuh"
#include "cuda/walk.cuh"
#include "ops/indexing_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class T, int V>
__global__ void __launch_bounds__(cuda::kThreads)
    gather_kernel(GatherAlong<T> a, const __grid_constant__ cuda::Walker<3> walk) {
  cuda::grid_stride_loop(walk.numel, [&](int64_t i) {
    const auto at = walk.at(i);
    const int64_t index = a.index[at.of[2]];
    cuda::Vector<T, V> values{};
    if (static_cast<uint64_t>(index) < static_cast<uint64_t>(a.size))
      values = cuda::load_vector<V>(a.x + at.of[1] + index * a.step);
    cuda::store_vector<V>(a.out + at.of[0], values);
  });
}

template <class T> void gather(const GatherAlong<T>& a) {
  if (a.walk.numel == 0) return;
  constexpr int V = 16 / sizeof(T);
  const auto run = [&]<int v>() {
    const cuda::Walker<3> walk(a.walk, v);
    cuda::launch<gather_kernel<T, v>>("gather", cuda::threads_for(walk.numel), a, walk);
  };
  // Vectors where neighbours in out are neighbours in x: one index for all of them.
  const int last = a.walk.dims - 1;
  const void* const bases[] = {a.out, a.x, a.index};
  const bool neighbours = a.walk.strides[1][last] == 1 && a.walk.strides[2][last] == 0 && a.step % V == 0;
  const int64_t sizes[] = {sizeof(T), sizeof(T), 1};
  Walk<3> shared = a.walk;  // the index is read one by one
  for (int d = 0; d < shared.dims; ++d) shared.strides[2][d] = 0;
  neighbours&& cuda::takes_vectors(shared, bases, sizes, V) ? run.template operator()<V>()
                                                            : run.template operator()<1>();
}

// A thread takes a line along dim, in order.
template <class Write>
__global__ void __launch_bounds__(cuda::kThreads)
    write_lines(WriteAlong<Write> a, const __grid_constant__ cuda::Walker<3> walk) {
  cuda::grid_stride_loop(walk.numel, [&](int64_t i) {
    const auto at = walk.at(i);
    for (int64_t j = 0; j < a.count; ++j) {
      const int64_t index = a.index[at.of[1] + j * a.index_stride];
      if (static_cast<uint64_t>(index) >= static_cast<uint64_t>(a.size)) continue;
      Write{}(a.out[at.of[0] + index * a.out_stride], a.src[at.of[2] + j * a.src_stride]);
    }
  });
}

// The positions of long lines are sorted by index first. Those out of range come last.
struct LoadPlace {
  cuda::Walker<3> walk;
  const int64_t* index;
  int64_t stride, size;
  __device__ uint64_t operator()(int64_t line, int64_t j) const {
    const auto i = static_cast<uint64_t>(index[walk.at(line).of[1] + j * stride]);
    const auto end = static_cast<uint64_t>(size);
    return cuda::make_item(static_cast<uint32_t>(i < end ? i : end), static_cast<uint32_t>(j));
  }
};

// Then a thread takes an element of out, and all that comes there, by the places of its line, or of the only
// one where all lines have the same index.
template <class Write>
__global__ void __launch_bounds__(cuda::kThreads)
    write_elements(WriteAlong<Write> a, const __grid_constant__ cuda::Walker<4> elements,
                   cuda::Places places) {
  cuda::grid_stride_loop(elements.numel, [&](int64_t i) {
    const auto at = elements.at(i);
    const int64_t along = at.of[2], line = at.of[3], count = places.count(line, along);
    if (count == 0) return;
    const uint64_t* items = places.begin(line, along);
    auto value = a.out[at.of[0]];
    for (int64_t j = Write::last_only ? count - 1 : 0; j < count; ++j)
      Write{}(value, a.src[at.of[1] + cuda::index_of(items[j]) * a.src_stride]);
    a.out[at.of[0]] = value;
  });
}

template <class Write> void write_by_elements(const WriteAlong<Write>& a, bool one_line) {
  const Walk<3>& walk = a.walk;
  // The walk over out's elements; its operands are out, src, the number along dim, and that of the line.
  // Neighbouring threads take neighbours in out.
  const bool along_is_fastest = a.out_stride == 1 || walk.strides[0][walk.dims - 1] > a.out_stride;
  cuda::Walker<4> elements;
  if (!along_is_fastest) elements.add(a.size, a.out_stride, 0, 1, 0);
  int64_t line = walk.numel;
  for (int d = 0; d < walk.dims; ++d) {
    line /= walk.sizes[d];
    elements.add(walk.sizes[d], walk.strides[0][d], walk.strides[2][d], 0, one_line ? 0 : line);
  }
  if (along_is_fastest) elements.add(a.size, a.out_stride, 0, 1, 0);
  cuda::with_places(one_line ? 1 : walk.numel, a.count, a.size,
                    LoadPlace{cuda::Walker<3>(walk), a.index, a.index_stride, a.size},
                    [&](const cuda::Places& places) {
                      cuda::launch<write_elements<Write>>("scatter", cuda::threads_for(elements.numel), a,
                                                          elements, places);
                    });
}

template <class Write> void write(const WriteAlong<Write>& a) {
  if (a.walk.numel * a.count * a.size == 0) return;
  bool one_line = true;  // the same index in all of them
  for (int d = 0; d < a.walk.dims; ++d) one_line &= a.walk.strides[1][d] == 0;
  constexpr int64_t kShort = 32, kManyLines = 1 << 14;
  if (a.count > kShort && (one_line || a.walk.numel < kManyLines)) {
    constexpr int64_t kLimit = int64_t{1} << 32;
    check<ValueError>(
        a.count < kLimit && a.size < kLimit - 1,
        "scatter: {} values to {} places along a dimension, expected less than 2^32 on this device", a.count,
        a.size);
    write_by_elements(a, one_line);
  } else {
    const cuda::Walker<3> walk(a.walk);
    cuda::launch<write_lines<Write>>("scatter", cuda::threads_for(walk.numel), a, walk);
  }
}

const RegisterKernels registered{[] {
  cuda::for_all_types([]<class T>() {
    register_kernel(gather<T>);
    register_kernel(write<Assign<T>>);
  });
  cuda::for_numbers([]<class T>() { register_kernel(write<Accumulate<T>>); });
  cuda::for_types<bf16, float>([]<class T>() { register_kernel(write<Accumulate<T, double>>); });
}};

}  // namespace
}  // namespace tandem
