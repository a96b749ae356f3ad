// Random graphs of registered ops, and what is wrong with a gradient through one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autograd/shape.h"

namespace tandem::testing {

// A value (a leaf, or the output of an earlier step) that feeds an input, seen through a view; -1: none does.
struct Link {
  int value = -1, view = 0;
};

// What of a step's output enters the loss: nothing but what later steps make of it, its sum, or a sum with
// random weights.
enum class Part { none, plain, weighted };

// A registered op at one of its samples: a linked input is the sample's plus what its value has moved by, so
// that no graph leaves an op's domain. Or one of
//   "view"     another view of a value's memory
//   "write"    numbers added to a value in place; its output is the value
//   "join"     the sum of two values, which share its gradient
//   "dropout"  of a value, which makes passes
//   "fault"    a value whose gradient is wrong by a hundredth, to see that it would be found
struct Step {
  std::string op;
  Part part = Part::weighted;
  int sample = 0;
  std::vector<Link> from = {};
};

struct Leaf {
  Shape shape;
  bool passes = false;  // whether it has one for each of the graph's passes
};

struct Graph {
  uint64_t seed = 0;
  int passes = 1;
  std::vector<Leaf> leaves = {};
  std::vector<Step> steps = {};
};

Graph random_graph(uint64_t seed);

// "" where the engine's gradient of the loss agrees with central differences, and with
// what the same graph gives pass by pass; or what does not.
std::string failure_of(const Graph& graph);

// The graph with as few steps, links and passes as it takes to fail still.
Graph shrunk(Graph graph);
std::string to_cpp(const Graph& graph);

}  // namespace tandem::testing
