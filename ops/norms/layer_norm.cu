// Layer norm and RMS norm. A team of threads holds a row, so that memory is read and written once.
#include "ops/norms/held_norm.cuh"

namespace tandem {
namespace {

using namespace detail;

template <class T, class O, class Form>
__global__ void __launch_bounds__(Form::Team::kBlock, cuda::kLeastBlocks<Form, T>)
    norm_kernel(NormRows<T, O> args, int room_bytes) {
  using Team = typename Form::Team;
  char* room = cuda::team_room<Team>(room_bytes);
  Team::for_each_row(args.passes * args.rows, [&](int64_t row, bool live) {
    cuda::HeldRow<Form, T> x(args.x + row * args.n, args.n, room,
                             cuda::values_in<Form, T>(args.n, room_bytes));
    normalise<Form>(args, row, live, x);
  });
}

template <class T, class O> void launch(const NormRows<T, O>& args) {
  const int64_t rows = args.passes * args.rows;
  if (rows == 0) return;
  constexpr int V = 16 / sizeof(T);
  const bool vectors = cuda::takes_row_vectors<V>(args.n, args.x, static_cast<const O*>(args.y)) &&
                       cuda::takes_row_vectors<V>(args.n, args.weight, args.bias);
  cuda::with_row_form<T>(args.n, vectors, [&]<class Form>() {
    cuda::launch_rows<norm_kernel<T, O, Form>, Form>("norm", args, rows,
                                                     args.n * static_cast<int64_t>(sizeof(T)), true);
  });
}

const RegisterKernels registered{[] {
  cuda::for_floats([]<class T>() { register_kernel(launch<T, T>); });
  register_kernel(launch<float, bf16>);
}};

}  // namespace
}  // namespace tandem
