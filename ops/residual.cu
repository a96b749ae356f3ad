// x + dropout(z) and the layer norm of that. A team of threads holds a row of the sum, so that nothing is
// read twice.
#include "ops/norms/held_norm.cuh"
#include "ops/residual_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class Z, class O, class Form>
__global__ void __launch_bounds__(Form::Team::kBlock)
    residual_norm_kernel(const __grid_constant__ ResidualNormRows<Z, O> a, cuda::Divisor rows,
                         cuda::Divisor rows_of_sample) {
  constexpr int V = Form::V;
  static_assert(V == 4);  // words of a block of Philox
  const DeviceNoise::Draws draws = a.branch.noise.draws();
  Form::Team::for_each_row(a.passes * a.rows, [&](int64_t row, bool live) {
    int64_t pass = row;
    const int64_t of_pass = rows.divide(pass);
    int64_t sample = of_pass;
    const int64_t first = rows_of_sample.divide(sample) * a.n;  // position in the sample
    const Z* z = a.z + pass * a.z_pass + of_pass * a.n;
    float* sum = a.sum + row * a.n;
    const uint32_t threshold = a.branch.threshold[pass];
    const float scale = a.branch.scale[pass];
    cuda::HeldRow<Form, float> y(a.x + pass * a.x_pass + of_pass * a.n, a.n, nullptr, 0);
    cuda::each_vector<Form>(
        a.n,
        [&](int64_t i, auto& values) {
          const auto branch = cuda::load_row<Z, V>(z, i);
          std::array<uint32_t, 4> words{};
          if (threshold != 0) {
            words = draws.block(static_cast<uint32_t>(pass), static_cast<uint64_t>(sample),
                                static_cast<uint64_t>((first + i) / V));
          }
#pragma unroll
          for (int l = 0; l < V; ++l) {
            const float scaled = branch.at[l] * scale;
            values.at[l] += words[l] >= threshold ? scaled : 0.0f;
          }
          if (live) cuda::store_vector<V>(sum + i, values);
        },
        y);
    normalise<Form>(a, row, live, y);
  });
}

template <class Z, class O> void launch(const ResidualNormRows<Z, O>& a) {
  cuda::with_row_form<float>(a.n, true, [&]<class Form>() {
    if constexpr (Form::kRegisters) {
      cuda::launch<residual_norm_kernel<Z, O, Form>>("residual_norm",
                                                     Form::Team::blocks_for(a.passes * a.rows), a,
                                                     cuda::Divisor(a.rows), cuda::Divisor(a.branch.rows_of_sample));
    }
  });
}

const RegisterKernels registered{[] {
  register_kernel(launch<float, float>);
  register_kernel(launch<float, bf16>);
  register_kernel(launch<bf16, float>);
  register_kernel(launch<bf16, bf16>);
}};

}  // namespace
}  // namespace tandem
