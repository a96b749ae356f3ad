// Names of published weights and ours: a table for each family, read in both directions.
#pragma once

#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "nn/module.h"

namespace tandem::models {

// How a tensor is stored there.
enum class Stored {
  as_ours,
  transposed,   // a matrix [in, out]
  leading_one,  // [1, n] for our [n]
  once,         // not again: this name of ours is tied to one before
};

// "{}" is the number of a layer, "*" at the end stands for weight and bias, and "(a b c)" in ours for several
// tensors, whose rows theirs has one after another.
struct NameRow {
  const char* theirs;
  const char* ours;
  Stored stored = Stored::as_ours;  // how
};

// A family of published models.
struct Family {
  const char* name;                 // its model_type
  const char* prefix;               // of the names of the body, where there is a head beside it
  std::span<const NameRow> body;    // with and without the prefix
  std::span<const NameRow> heads;   // what stands beside the body
  std::vector<const char*> unused;  // patterns of theirs that other tasks, and older versions, have
  std::vector<const char*> fresh;   // patterns of ours that a file may lack
};

// ConfigError, which begins with `where`, unless it is known.
const Family& find_family(const std::string& name, const std::string& where = "pretrained");

// What `own`, a model's state, takes of theirs, under our names and in our shapes where they fit; `used` gets
// the names that were read.
nn::NamedTensors to_own(const Family& family, const nn::NamedTensors& theirs, const nn::StateDict& own,
                        std::set<std::string>& used);
// The state under their names, `bare` ones where there is no head. ConfigError naming a tensor that the
// family has no name for.
nn::NamedTensors to_theirs(const Family& family, const nn::StateDict& own, bool bare = false);

}  // namespace tandem::models
