"""What the assembler said of every kernel of the CUDA module: none spills registers, and some use few.

  test_registers.py ARCHITECTURES OBJECT...

Beside each object lies OBJECT.ptxas (cuda/compile-kernel). The kernels that there must be are those of the PTX
in the object itself.
"""

import re
import sys

# Kernels that may spill, a regular expression of the mangled name: why.
ALLOWED = {}

# What kernels may use, a regular expression of the mangled name: registers, for the sake of more than one block.
MOST = {r"norm_grad_kernelI(?!d)": 128}  # but of f64

SKIPPED = 77


def kernels_of(path):
    """kernel: the least compute capability, 10 * major + minor, that there is PTX of it for."""
    with open(path, "rb") as f:
        text = f.read().decode("latin-1")
    kernels = {}
    for target, body in re.findall(r"\.target sm_(\d+)(.*?)(?=\.target sm_|\Z)", text, re.DOTALL):
        for kernel in re.findall(r"\.entry\s+([\w$]+)\s*\(", body):
            kernels[kernel] = min(int(target), kernels.get(kernel, int(target)))
    return kernels


def figures_of(path):
    """(kernel, architecture): bytes spilled, bytes of stack, registers."""
    figures, key = {}, None
    with open(path) as f:
        for line in f:
            if entry := re.search(r"Compiling entry function '([^']+)' for '([^']+)'", line):
                key = entry.groups()
                figures[key] = {}
            elif stack := re.search(r"^ *(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
                if key:
                    figures[key].setdefault("spilled", int(stack[2]) + int(stack[3]))
                    figures[key].setdefault("stack", int(stack[1]))
            elif registers := re.search(r"Used (\d+) registers", line):
                if key:
                    figures[key]["registers"] = int(registers[1])
                key = None
    return figures


def main():
    architectures, objects = [arch for arch in sys.argv[1].split(",") if arch], sys.argv[2:]
    if not architectures:
        print("no architectures (-Dgpu_arch is empty): nothing was assembled")
        return SKIPPED
    problems, count, used = [], 0, set()
    limited = set()
    most = {arch: (0, "") for arch in architectures}
    for path in objects:
        figures = figures_of(path + ".ptxas")
        for kernel, least in sorted(kernels_of(path).items()):
            for arch in architectures:
                if int(re.match(r"\d+", arch)[0]) < least:
                    continue  # the device takes another way (cuda/flash_attention.h)
                count += 1
                of_kernel = figures.get((kernel, f"sm_{arch}"), {})
                if {"spilled", "stack", "registers"} - of_kernel.keys():
                    problems.append(f"{path}.ptxas: says nothing of {kernel} for sm_{arch}")
                    continue
                most[arch] = max(most[arch], (of_kernel["registers"], kernel))
                for pattern, limit in MOST.items():
                    if re.search(pattern, kernel):
                        limited.add(pattern)
                        if of_kernel["registers"] > limit:
                            problems.append(f"sm_{arch}: {of_kernel['registers']} registers, over {limit}, in {kernel}")
                if of_kernel["spilled"] == 0:
                    continue
                reasons = [pattern for pattern in ALLOWED if re.search(pattern, kernel)]
                used.update(reasons)
                if not reasons:
                    problems.append(f"sm_{arch}: {of_kernel['spilled']} bytes spilled by {kernel}")
    problems += [f"no kernel needs the exception {pattern!r} any more" for pattern in ALLOWED if pattern not in used]
    problems += [f"no kernel is limited by {pattern!r}" for pattern in MOST if pattern not in limited]
    if count == 0:
        problems.append("no kernels were found")
    for problem in problems:
        print(problem)
    for arch, (registers, kernel) in most.items():
        print(f"sm_{arch}: at most {registers} registers, in {kernel}")
    if any("spilled" in problem for problem in problems):
        print("__launch_bounds__(threads, 1) keeps the assembler from spilling for the sake of more blocks")
    print(f"{count} kernels (each once per architecture), {len(problems)} problems")
    return 1 if problems else 0


sys.exit(main())
