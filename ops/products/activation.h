// What a product can apply to its result: part of linear's interface, and read by both compilers.
#pragma once

namespace tandem {

enum class Activation { none, relu, gelu, gelu_tanh };

// Whether f'(z) needs z; relu's follows from the sign of f(z).
constexpr bool derivative_needs_input(Activation f) {
  return f == Activation::gelu || f == Activation::gelu_tanh;
}

}  // namespace tandem
