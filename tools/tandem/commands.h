// The commands of `tandem`: each file NAME_command.cpp adds one family of them.
#pragma once

#include "autograd/error.h"
#include "tools/tandem/command.h"

namespace tandem::command {

// Ctrl-C: the command stopped in good order.
struct Interrupted : Error {
  using Error::Error;
};

void add_data(Command& root);    // data NAME, data vocab
void add_train(Command& root);   // train TASK
void add_sweep(Command& root);   // sweep
void add_run(Command& root);     // eval, predict
void add_report(Command& root);  // report
void add_export(Command& root);  // export
void add_text(Command& root);    // translate, summarize, generate, classify, similarity
void add_tag(Command& root);     // tag
void add_score(Command& root);   // score bleu, chrf, rouge
void add_ops(Command& root);     // ops, gradcheck
void add_bench(Command& root);   // bench
void add_doctor(Command& root);  // doctor

}  // namespace tandem::command
