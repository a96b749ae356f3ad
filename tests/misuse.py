#!/usr/bin/env python3
"""What a user may write by mistake, and what is said to it.

  tests/misuse.py SOURCE_FOLDER BUILD_FOLDER COMPILER...      with its options, e.g. g++ -std=c++20 -fsanitize=address

A trap is refused by the compiler, in whose messages about it the text is, or is warned of, or throws an error of that type
and text, or ends the program, where a destructor cannot throw. tests/docs/code.py has what works.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

PRELUDE = """
#include <cmath>
#include <thread>
#include <tandem.h>
using namespace tandem;
struct Net : nn::Module {
  nn::Linear hidden{*this, "hidden", 4, 8}, out{*this, "out", 8, 3};
  nn::Dropout drop{*this, "drop", 0.1};
  nn::BatchNorm2d norm{*this, "norm", 1};
  Tensor forward(const Tensor& x) { return out(drop(relu(hidden(x)))); }
};
struct NewOp : Op {
  const char* name() const override { return "new_op"; }
  Tensor forward(const Tensors& in) override { return in[0]; }
  Tensors vjp(const Tensor&) override { return {}; }
};
"""
LOCALS = """
  nn::Module root;
  Net model;
  nn::AdamW optimizer{model.parameters(), {.lr = 1e-3}};
  const Tensor x = arange(1, 9).reshape({2, 4}), labels = tensor({0, 2}, {DType::i64}), logits = ones({2, 3});
  const Tensor w = tensor({1, 2, 3}).requires_grad_();
  const data::TensorDataset points({x}, labels);
"""

# Code, and what the compiler says to it: its error, or the line that a note of it shows; "" where any error will do.
REFUSED = [
    ('std::vector<nn::Linear> all; all.emplace_back(root, "a", 4, 8);', "hold several in an nn::ModuleList, or in a std::vector of"),
    ('std::vector<nn::Dropout> all; all.push_back(nn::Dropout(root, "a", 0.1));', "hold several in an nn::ModuleList"),
    ('std::vector<nn::RMSNorm> all{nn::RMSNorm(root, "a", 4)};', "several: nn::ModuleList"),
    ("auto layer = model.hidden;", "the same layer: a reference, auto&"),
    ("Net other = model;", "several: nn::ModuleList, or std::unique_ptr; weights: load_state_dict"),
    ("model(x);", r"model\.forward\(x\), or derive from nn::Layer"),
    ("nn::Linear layer(4, 8);", r"candidate.*Linear(?:::Linear)?\((?:tandem::nn::)?Module ?&|Linear\(Module& parent, std::string name"),
    ('Scope scope("x");', "no temporary, and so no literal"),
    ("x.index({{1, 2, 3, 4}});", r"deleted (function|constructor).*Index"),
    ("x.to_vector<size_t>();", "Element"),
    ("tensor(std::vector<size_t>{1});", "Element"),
    ("x.sum(0, 1);", r"x\.sum\(\{0, 1\}\)"),
    ("x.mean(-2, -1);", r"x\.mean\(\{0, 1\}\)"),
    ("x.var(1, true);", r"x\.var\(1, 1, true\)"),
    ("x.std({0, 1}, true);", r"x\.std\(1, 1, true\)"),
    ("var(x, 1, true);", r"var\(x, 1, 1, true\)"),
    ("for (auto row : x) row.sum();", r"for \(const Tensor& row : x\.unbind\(\)\), or x\.select"),
    ("x.index({1.5});", ""),
    ("if (x > 3) return;", "to .bool.|convertible to 'bool'|conver"),
    ("x > 1 && x < 3;", "operator&&|to 'bool'"),
    ("(x + x) = logits;", ""),
    ("float loss = x.mean();", "'float'"),
    ("rdrop_cross_entropy(logits, labels, {.alhpa = 1});", ""),
    ("nn::Trainer trainer{model, optimizer, {.pases = 3}};", ""),
    ("nn::Step step(model, optimizer, {.pases = 3});", ""),
    ("nn::TrainerOptions options{.pases = 3};", "'pases'"),
]
# Code, and a warning that every compiler has on by itself.
WARNED = [
    ("NoGradGuard();", "give it a name"),
    ("PassContext(PassOptions{});", "give it a name"),
    ("nn::Step(model, optimizer);", "give it a name"),
    ("nn::EvalMode{model};", "give it a name"),
    ("SeedScope(7);", "give it a name"),
    ("x[0, 1];", "comma"),
]
# Code, the type of what it throws, and its text.
THROWN = [
    ("x.shape()[9];", "ShapeError", "shape: index 9 is out of range"),
    ("x[2];", "ValueError", "select: index 2 is out of range for size 2"),
    ("x.index({{1, 3}, {}, 0});", "ShapeError", "index: 3 indices"),
    ("x.item();", "ShapeError", "item: expected one element, got f32[2,4]"),
    ("x.to_vector<bool>(); x.data<double>();", "DTypeError", "f32"),
    ("model.hidden.weight = model.hidden.weight;", "AutogradError", "nn::tie"),
    ("apply<NewOp>({w}).sum().backward();", "AutogradError", "new_op: vjp returned 0 cotangents for 1 inputs"),
    ("w.grad().zero_();", "AutogradError", "an undefined Tensor was used, as a grad() is before a backward()"),
    ("w.mul_(2);", "AutogradError", "open a NoGradGuard for a leaf"),
    ("{ const NoGradGuard no_grad; w.copy_(ones({2})); }", "ShapeError", "copy: shapes [3] and [2]"),
    ("labels.clone().add_(0.5);", "DTypeError", "add_: 0.5 with a tensor of i64"),
    ("labels.clone().mul_(x[0].slice(0, 0, 2));", "DTypeError", "which is narrower"),
    ("2 < x < 5;", "DTypeError", "for 2 < x < 5 write (x > 2) & (x < 5)"),
    ("cross_entropy(ones({2, 3, 5}), ones({2, 5}).to(DType::i64));", "ShapeError", "write logits.transpose(1, 2)"),
    ("labels / 2;", "DTypeError", "convert it with to()"),
    ("cross_entropy(logits, arange(2));", "DTypeError", "expected class indices (i64 or i32)"),
    ("cross_entropy(labels, logits);", "DTypeError", "target is f32[2,3], expected class indices (i64 or i32)"),
    ("mse_loss(ones({4, 1}), ones({4}));", "ShapeError", "mse_loss: expected equal shapes"),
    ("randn({2});", "ConfigError", "there is no seed"),
    ("Tensor l = (w * w).sum(); l.backward(); l.backward();", "AutogradError", "retain_graph = true"),
    ("(w * 2).backward();", "AutogradError", "give a cotangent"),
    # Steps, passes and threads.
    ("model.forward(x);", "AutogradError", "noise outside of a PassContext: in a loop, begin each step with nn::Step"),
    ("{ nn::Step step(model, optimizer); optimizer.step(); }", "AutogradError", "was backward() called in this step?"),
    ("{ nn::Step step(model, optimizer); model.forward(x); } nn::Step next(model, optimizer);", "AutogradError",
     "the step before ended without optimizer.step()"),
    ("model.norm(ones({2, 1, 2, 2})); model.eval(); model.norm(ones({2, 1, 2, 2}));", "AutogradError",
     "nn::Step folds them in when the optimizer updates; by hand, call model.commit_statistics()"),
    ("nn::Step step(model, optimizer), inner(model, optimizer);", "AutogradError", "another step of this optimizer is open"),
    ("nn::Step step(model, optimizer); on_a_thread([&] { model.forward(x); });", "AutogradError", "on the thread that runs the model"),
    ("nn::Step step(model, optimizer); on_a_thread([&] { step.micro_batch(2); });", "AutogradError",
     "is it the thread that began the step"),
    ("nn::Step step(model, optimizer); const PassContext passes({.count = 1}); step.micro_batch(2);", "AutogradError",
     "is every PassContext within it closed?"),
    ("const SeedScope seeds(7); on_a_thread([] { randn({2}); });", "ConfigError", "there is no seed"),
    ("const NoGradGuard no_grad; (w * w).sum().backward();", "AutogradError", "backward: the root"),
    # Training.
    ("Net other; nn::AdamW others{other.parameters()}; nn::Trainer(model, others);", "ConfigError", "is not one of the model's"),
    ("nn::AdamW twice{{model.hidden.weight, model.hidden.weight}};", "ConfigError", "is listed twice"),
    ("data::Batch batch{{x}, labels}; nn::Trainer(model, optimizer).step({batch});", "ShapeError", "size"),
    ("optimizer.set_lr(-1);", "ConfigError", "lr is -1"),
    ("nn::Schedule::cosine(10, 5);", "ConfigError", "total is 5, expected more than the warmup of 10 steps"),
    ("nn::Schedule::cosine(0, 5)(0);", "ValueError", "steps count from 1"),
    ('nn::load(model, "none.safetensors");', "IoError", "none.safetensors"),
    ('nn::Linear one{root, "a", 4, 8}, other{root, "a", 4, 8};', "ConfigError", "a"),
]
# Code that ends the program, and what it says.
ENDED = [
    ("auto passes = std::make_unique<PassContext>(PassOptions{}); on_a_thread([&] { passes.reset(); });", "PassContext: closed on another thread"),
    ("auto no_grad = std::make_unique<NoGradGuard>(); on_a_thread([&] { no_grad.reset(); });", "NoGradGuard: closed on another thread"),
    ("auto step = std::make_unique<nn::Step>(model, optimizer); step->skip(); on_a_thread([&] { step.reset(); });",
     "PassContext: closed on another thread"),
    ("auto seeds = std::make_unique<SeedScope>(7); on_a_thread([&] { seeds.reset(); });", "SeedScope: closed on another thread"),
]

PROGRAM = """
#include <cstdio>
#include <cstdlib>
#include <memory>
template <class F> void on_a_thread(F f) {  // what it throws, this thread throws
  std::exception_ptr error;
  std::thread([&] { try { f(); } catch (...) { error = std::current_exception(); } }).join();
  if (error) std::rethrow_exception(error);
}
template <class Expected, class F> bool trap(int number, const char* text, F f) {
  try {
    f();
    std::printf("%d: nothing was said\\n", number);
  } catch (const Expected& error) {
    if (std::string(error.what()).find(text) != std::string::npos) return true;
    std::printf("%d: said '%s'\\n", number, error.what());
  } catch (const std::exception& error) {
    std::printf("%d: another type: '%s'\\n", number, error.what());
  }
  return false;
}
"""


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def compile_fail(compiler, folder, source):
    """What the compiler says of all traps in one file."""
    functions = "".join(f'#line 1 "trap{i}"\nvoid trap{i}() {{{LOCALS}#line 1 "trap{i}"\n{code}\n}}\n'
                        for i, (code, _) in enumerate(REFUSED + WARNED))
    Path(folder, "traps.cpp").write_text(PRELUDE + functions)
    is_clang = "clang" in subprocess.run([compiler[0], "--version"], capture_output=True, text=True).stdout
    limits = ["-ferror-limit=0" if is_clang else "-fmax-errors=0", "-ftemplate-backtrace-limit=0"]
    done = subprocess.run([*compiler, *limits, "-fsyntax-only", f"-I{source}", "traps.cpp"], cwd=folder, capture_output=True, text=True,
                          env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
    return done.stderr


def said(output):
    """By number of the trap: errors and warnings, with what led to them and the notes below them."""
    blocks, context = [], []
    for line in output.splitlines():
        if re.search(r"\b(error|warning):", line):
            blocks.append([*context, line])
            context = []
        elif blocks and not re.search(r"\bIn .*(function|instantiation|constructor)|required (from|by)|In file included|^ +from ", line):
            blocks[-1] += [*context, line]
            context = []
        else:
            context.append(line)
    by_trap, last = {}, None
    for block in blocks:  # one that names no trap goes on with the last
        text = "\n".join(block)
        named = re.search(r"\btrap(\d+)\b", text)
        last = int(named[1]) if named else last
        by_trap[last] = by_trap.get(last, "") + text + "\n"
    return by_trap


def main(source, build, compiler):
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        output = compile_fail(compiler, folder, source)
        by_trap = said(output)
        for i, (code, text) in enumerate(REFUSED + WARNED):
            kind, own = "error" if i < len(REFUSED) else "warning", by_trap.get(i, "")
            if moved := not own and re.match(r"std::vector<nn::(\w+)>", code):  # clang does not tell where
                own = "\n".join(re.findall(rf".*same_as<tandem::nn::{moved[1]},.*", output))
            if not re.search(rf"\b{kind}:", own) or not re.search(text, own):
                wrong.append(f"{code}: no {kind} with '{text}' in\n{own}")
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "tandem"], check=True, capture_output=True, text=True,
                               env={"PKG_CONFIG_PATH": f"{build}/meson-uninstalled", "PATH": "/usr/bin:/bin"}).stdout.split()
        rows = "".join(f"  right &= trap<{kind}>({i}, {quoted(text)}, [] {{{LOCALS}{code}\n}});\n" for i, (code, kind, text) in enumerate(THROWN))
        ends = "".join(f"  if (which == {i}) {{{LOCALS}{code}\n}}\n" for i, (code, _) in enumerate(ENDED))
        Path(folder, "program.cpp").write_text(f"{PRELUDE}{PROGRAM}int main(int count, char** words) {{\n  bool right = true;\n"
                                               f"  const int which = count > 1 ? std::atoi(words[1]) : -1;\n{ends}"
                                               f"  if (which >= 0) return 0;\n{rows}  return !right;\n}}\n")
        subprocess.run([*compiler, "-w", "-O0", "program.cpp", "-o", "program", *flags], cwd=folder, check=True)
        done = subprocess.run([f"{folder}/program"], cwd=folder, capture_output=True, text=True)
        for line in done.stdout.splitlines():
            number, _, rest = line.partition(": ")
            wrong.append(f"{THROWN[int(number)][0]}: {rest}" if number.isdigit() else line)
        if done.returncode and not done.stdout or done.stderr:
            wrong.append(f"exit status {done.returncode}: {done.stderr}")
        for i, (code, text) in enumerate(ENDED):
            done = subprocess.run([f"{folder}/program", str(i)], cwd=folder, capture_output=True, text=True)
            if done.returncode == 0 or text not in done.stderr:
                wrong.append(f"{code}: exit status {done.returncode}, '{done.stderr}'")
    print("\n".join(wrong))
    print(f"{len(REFUSED)} refused by the compiler, {len(WARNED)} warned of, {len(THROWN)} thrown, {len(ENDED)} ended; {len(wrong)} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3:])
