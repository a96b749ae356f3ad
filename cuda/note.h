// A line on standard error where TANDEM_CUDA_LOG is set: what a library was asked for and does not have. No
// error, since our own kernels do it.
#pragma once

#include <fmt/format.h>

#include <cstdlib>
#include <utility>

#include "autograd/scope.h"
#include "autograd/tell.h"

namespace tandem::cuda {

template <class... A> void note(fmt::format_string<A...> format, A&&... arguments) {
  static const bool asked = std::getenv("TANDEM_CUDA_LOG") != nullptr;
  if (asked)
    tell("tandem: cuda: {}: {}", OpScope::current(), fmt::format(format, std::forward<A>(arguments)...));
}

}  // namespace tandem::cuda
