// --class-weights: how much each class counts in the cross-entropy of a training.
#pragma once

#include <string>
#include <vector>

#include "autograd/tensor.h"
#include "tools/tandem/command.h"

namespace tandem::command {

void declare_class_weights(Command& to, std::string& value);

// f32 [classes] of the option's value, undefined for "": "balanced" weighs a class by samples / (classes *
// its samples), those of the training being `labels`; numbers with commas are in the order of the names; what
// is else is a file of lines "class<TAB>weight", one for each class. ConfigError and IoError for what does
// not fit the classes.
Tensor make_class_weights(const std::string& value, const std::vector<std::string>& names,
                          const std::vector<int64_t>& labels);

}  // namespace tandem::command
