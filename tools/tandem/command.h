// The commands of `tandem`: each file of this folder adds one family to the command line.
#pragma once

#include <CLI/CLI.hpp>

#include "autograd/error.h"

namespace tandem::command {

// Ctrl-C: the command stopped in good order.
struct Interrupted : Error {
  using Error::Error;
};

void add_train(CLI::App& app);  // train TASK
void add_run(CLI::App& app);    // eval, predict
void add_text(CLI::App& app);   // translate, summarize, generate, classify, similarity
void add_score(CLI::App& app);  // score bleu, chrf, rouge
void add_data(CLI::App& app);   // data fashion-mnist
void add_ops(CLI::App& app);    // ops, gradcheck
void add_bench(CLI::App& app);  // bench

}  // namespace tandem::command
