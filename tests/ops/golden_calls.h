// What is compared with tests/golden/ops.json and functions.json, and how a golden name is called here.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "tests/golden.h"

namespace tandem::testing {

// PyTorch's arguments and inputs in PyTorch's order -> its outputs.
using GoldenCall = std::function<Tensors(const Json& args, const Tensors& inputs)>;

// In golden_losses.cpp.
Tensors golden_cross_entropy(const Json& args, const Tensors& inputs);
Tensors golden_nll_loss(const Json& args, const Tensors& inputs);
Tensors golden_mse_loss(const Json& args, const Tensors& inputs);
Tensors golden_binary_cross_entropy(const Json& args, const Tensors& inputs);
Tensors golden_kl_div(const Json& args, const Tensors& inputs);

// Every golden op that we have, by its name in ops.json.
const std::map<std::string, GoldenCall>& golden_calls();
// Golden ops without one of ours yet. A name in both fails, and so does one in neither.
const std::set<std::string>& golden_unwritten();

// The same for functions.json; in golden_functions.cpp.
const std::map<std::string, GoldenCall>& golden_functions();

}  // namespace tandem::testing
