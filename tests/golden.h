// Numbers of other frameworks; golden/README.md says which and what the files hold.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "autograd/tensor.h"

namespace tandem::testing {

using Json = nlohmann::json;

// tests/golden.
std::string golden_folder();
// tests/golden/`name`.
Json golden(const std::string& name);
// A number, or infinity by name.
double golden_number(const Json& json);
// A tensor with its type and shape.
Tensor golden_tensor(const Json& json);

}  // namespace tandem::testing
