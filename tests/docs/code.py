#!/usr/bin/env python3
"""Compiles the code of the Markdown files, and runs the programs of README.md.

  tests/docs/code.py COMPILER...      with its options, e.g. g++ -std=c++20 -O1
  tests/docs/code.py --small-fashion-mnist FOLDER      writes the data that they are run on

README.md: each block with a main() is a program, built as its reader would, with what pkg-config says of the library, and
run where a small Fashion-MNIST is. CONTRIBUTING.md: each block below a line that ends in `FILE`: is that file of the tree.
Every other page: blocks ```cpp are what one function does, in order, those of ```cpp global stand before it, and what it
prints is what the ```output blocks show. In tables with a last column called Tandem each `code` of that column is what a
function of its own does, unless the cell has words beside it. The comments of headers have examples likewise, the lines
indented by two blanks below one that ends in "Example:", with the names that pytorch.md opens with.
"""

import difflib
import os
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMPILER = sys.argv[1:] or sys.exit(__doc__)


def pkg_config(*words):
    return subprocess.run(["pkg-config", *words, "tandem"], check=True, capture_output=True, text=True).stdout.split()


def small_fashion_mnist(folder):
    folder.mkdir(parents=True)
    for split, count in (("train", 128), ("t10k", 32)):
        pixels = bytes((i * i // 7 + i // 784 % 10 * 20) % 256 for i in range(count * 784))
        labels = bytes(i % 10 for i in range(count))
        (folder / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, count, 28, 28) + pixels)
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, count) + labels)


def photos(folder):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    for name in "ant", "bee":
        (folder / name).mkdir(parents=True)
        for i in range(10):
            rows = zlib.compress(b"".join(b"\0" + bytes((i * 20 + x * y) % 256 for x in range(8)) for y in range(8)))
            (folder / name / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)) +
                                                     chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def run_programs(scratch):
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```cpp\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    programs = [b for b in blocks if "int main()" in b]
    assert len(programs) == 2, f"README.md: expected two programs, found {len(programs)}"
    small_fashion_mnist(scratch / "data" / "fashion-mnist")
    line = re.search(r"`g\+\+ -std=c\+\+20 (program\.cpp \$\(pkg-config --cflags --libs tandem\))`", readme)[1]
    for text in programs:
        (scratch / "program.cpp").write_text(text)
        subprocess.run(["bash", "-c", f"{shlex.join(COMPILER)} {line}"], cwd=scratch, check=True)  # as README.md has it
        output = subprocess.run([scratch / "a.out"], cwd=scratch, check=True, text=True, stdout=subprocess.PIPE).stdout
        print(output, end="")
        accuracy = re.search(r"accuracy ([0-9.]+) %", output)
        assert not accuracy or float(accuracy[1]) > 95, "README.md: the first program did not learn its data"


def pages():
    for page in sorted(ROOT.glob("**/*.md")):
        name = page.relative_to(ROOT)
        if name.parts[0].startswith(("build", ".", "README", "CONTRIBUTING")):
            continue
        blocks = re.findall(r"^```(cpp global|cpp|output)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        if any(kind.startswith("cpp") for kind, _ in blocks):
            yield name, blocks


def cells(page):
    """Line numbers and code of the right-hand cells of the tables that say "Tandem" there."""
    in_table = False
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        in_table = line.endswith("| Tandem |") or in_table and line.startswith("|")
        cell = re.split(r"(?<!\\)\|", line)[-2].strip() if in_table else ""
        if re.fullmatch(r"(`[^`]+`(, )?)+", cell):
            yield from ((number, code.replace("\\|", "|")) for code in re.findall(r"`([^`]+)`", cell))


# The names that are used most, each with an example in its header.
USED_MOST = {
    "autograd/engine.h": [".backward(", "= grad("],
    "autograd/grad_mode.h": ["NoGradGuard"],
    "autograd/gradcheck.h": ["gradcheck("],
    "autograd/makers.h": ["zeros(", "tensor("],
    "autograd/pass_context.h": ["PassContext"],
    "nn/data/dataset.h": ["data::TensorDataset"],
    "nn/layers/attention.h": ["nn::MultiheadAttention"],
    "nn/layers/dropout.h": ["nn::Dropout"],
    "nn/layers/linear.h": ["nn::Linear"],
    "nn/layers/norm.h": ["nn::LayerNorm"],
    "nn/model_file.h": ["nn::save(", "nn::load("],
    "nn/module.h": [": nn::Module", "nn::ModuleList"],
    "nn/optim/adam.h": ["nn::AdamW"],
    "nn/optim/schedule.h": ["nn::Schedule"],
    "nn/train/evaluate.h": ["nn::evaluate("],
    "nn/train/step.h": ["nn::Step"],
    "nn/train/trainer.h": ["nn::Trainer"],
    "ops/rdrop/rdrop.h": ["rdrop_cross_entropy("],
}


def examples():
    """Header, line number and code of each example."""
    for header in sorted(h for folder in ("autograd", "ops", "nn", "models") for h in ROOT.glob(f"{folder}/**/*.h")):
        text = header.read_text()
        for found in re.finditer(r"^//(?:.*[ /])?Example:\n((?://(?:   .*)?\n)+)", text, re.MULTILINE):
            yield header.relative_to(ROOT), text[: found.start(1)].count("\n") + 1, re.sub("^//", "", found[1], flags=re.MULTILINE)


HEAD = """
#include <autograd/kernel.h>
#include <fmt/ranges.h>
#include <tandem.h>

#include <cmath>
#include <filesystem>
// Of rows, what they make is not used.
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-value"
bool failed = false;
template <class F> void row(int line, F f) {
  try {
    f();
  } catch (const std::exception& error) {
    fmt::print(stderr, "line {}: {}\\n", line, error.what());
    failed = true;
  }
}
"""


def run_pages(scratch):
    """All in one file: most of the time of compiling them is that of the headers."""
    found = list(pages())
    assert len(found) >= 10, f"expected at least 10 pages with code, found {len(found)}"
    assert len(list(cells("pytorch.md"))) > 100, "pytorch.md: its tables were not found"
    parts = [HEAD]
    for i, (page, blocks) in enumerate(found):
        of = lambda kind: "".join(text for k, text in blocks if k == kind)
        parts.append(f'namespace page{i} {{\nusing namespace tandem;\n#line 1 "{page}: global"\n{of("cpp global")}'
                     f'void run() {{\n#line 1 "{page}"\n{of("cpp")}}}\n')
        rows = "".join(f'row({number}, [&] {{\n#line {number} "{page}"\n{code};\n}});\n' for number, code in cells(page))
        parts.append(f"void table() {{\n{rows}}}\n}}\n")
    shown = list(examples())
    for header, names in USED_MOST.items():
        for name in names:
            assert any(str(h) == header and name in code for h, _, code in shown), f"{header}: no example of {name}"
    rows = "".join(f'row({number}, [&] {{\n#line {number} "{header}"\n{code}}});\n' for header, number, code in shown)
    opening = "".join(text for page, blocks in found if page.name == "pytorch.md" for kind, text in blocks if kind == "cpp global")
    parts.append(f"namespace page{len(found)} {{\nusing namespace tandem;\n{opening}void run() {{\n{rows}}}\nvoid table() {{}}\n}}\n")
    print(f"{len(shown)} examples in headers")
    found.append(("the headers' examples", None))
    calls = "".join(f'  if (page == {i}) page{i}::run(), std::freopen("/dev/null", "w", stdout), page{i}::table();\n'
                    for i in range(len(found)))
    parts.append(f"int main(int, char** words) {{\n  const int page = std::atoi(words[1]);\n{calls}  return failed;\n}}\n")
    photos(scratch / "photos")
    (scratch / "pages.cpp").write_text("".join(parts))
    flags = pkg_config("--cflags", "--libs")
    subprocess.run([*COMPILER, "-O0", "pages.cpp", "-o", "pages", *flags], cwd=scratch, check=True)
    wrong = []
    for i, (page, blocks) in enumerate(found):
        done = subprocess.run([scratch / "pages", str(i)], cwd=scratch, text=True, capture_output=True)
        expected = done.stdout if blocks is None else "".join(text for kind, text in blocks if kind == "output")
        state = "failed" if done.returncode else "ok" if done.stdout == expected else "another output"
        print(f"{page}: {state}")
        for line in difflib.unified_diff(expected.splitlines(), done.stdout.splitlines(), "shown", "printed", lineterm=""):
            print("   ", line)
        if done.returncode != 0 or done.stdout != expected:
            wrong.append(f"{page} {done.stderr}")
    assert not wrong, "\n".join(wrong)


def compile_files(scratch):
    shown = re.findall(r"`([\w/]+\.\w+)`:\n+```cpp\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(),
                       re.MULTILINE | re.DOTALL)
    assert len(shown) >= 4, f"CONTRIBUTING.md: expected at least 4 files, found {len(shown)}"
    for name, text in shown:
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_text(text)
    for name, _ in shown:
        if name.endswith(".cpp"):
            print(name)
            includes = [f"-I{scratch}", f"-I{ROOT}", *pkg_config("--cflags-only-I")]
            subprocess.run([*COMPILER, *includes, "-fopenmp-simd", "-fsyntax-only", name], cwd=scratch, check=True)


if COMPILER[0] == "--small-fashion-mnist":
    small_fashion_mnist(Path(COMPILER[1]))
    sys.exit()
with tempfile.TemporaryDirectory() as folder:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        run_programs(Path(folder))
        run_pages(Path(folder))
        compile_files(Path(folder))
    except (AssertionError, subprocess.CalledProcessError) as error:
        sys.exit(f"FAILED: {error}")
