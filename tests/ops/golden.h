// What is compared with tests/golden/ops.json, and how a golden name is called here.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "autograd/tensor.h"

namespace tandem::testing {

// PyTorch's arguments and inputs in PyTorch's order -> its outputs.
using GoldenCall = std::function<Tensors(const nlohmann::json& args, const Tensors& inputs)>;

// Every golden op that we have, by its name in the file.
const std::map<std::string, GoldenCall>& golden_calls();
// Golden ops without one of ours yet. A name in both fails, and so does one in neither.
const std::set<std::string>& golden_unwritten();
// Inputs (op, number) that are constants of ours, although the file has a gradient for them.
const std::set<std::pair<std::string, size_t>>& golden_constants();

}  // namespace tandem::testing
