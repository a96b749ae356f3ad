// Named tensors and string metadata in one file: the safetensors format
// (https://huggingface.co/docs/safetensors), which other tools read too.
//
//   u64 little-endian: bytes of the header | header: JSON | data: the tensors, row-major, little-endian
//   header: {"__metadata__": {key: string...}, name: {"dtype": "F32", "shape": [2, 3], "data_offsets":
//   [begin, end]}...}
//
// Offsets count from the start of the data, which the tensors cover without gap or overlap.
#pragma once

#include <map>
#include <string>

#include "nn/module.h"

namespace tandem::nn {

using Metadata = std::map<std::string, std::string>;  // what a file says beside its tensors

struct SafeTensors {
  NamedTensors tensors;  // in the order of their data
  Metadata metadata;
};

// Replaces `file` in one step (a temporary name, then renamed); wide types come first. ConfigError for a name
// that is repeated, reserved or not UTF-8, ShapeError for a tensor that differs between passes, IoError.
void save_safetensors(const std::string& file, const NamedTensors& tensors, const Metadata& metadata = {});

// Whether a tensor must begin at a multiple of its type's size, as published weights do. What Tandem wrote
// before it saved wide types first may not.
enum class Alignment { required, any };

// F16 is read as f32. Every size is checked against the file before memory is taken. IoError naming the file, the position, the
// tensor and what was expected: a name twice, sizes that overflow or do not fit, a gap, an overlap, bytes
// that belong to no tensor.
SafeTensors load_safetensors(const std::string& file, Alignment alignment = Alignment::required);

}  // namespace tandem::nn
