"""The tests of the CUDA kernels, tested: mistakes are made in the kernels, one at a time, and must be noticed.

  mutants.py LIST_MUTATIONS LIBRARY TEST_CUDA [--only TEXT] [--others N] [--jobs N] [--first] [--verbose]
             [-- ARGUMENTS OF TEST_CUDA]

The simulated device makes the mistake in a kernel's PTX as it loads it (tests/cudasim/ptx/mutation.h), so nothing is
compiled again. In each family of kernels there is one mutant of each of several kinds, chosen by hashes of names: never
by whether it is noticed. Noticed means that test_cuda fails. EQUIVALENT has those that no test can notice, with
the reason; of the others at least 95 % must be.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import os
import re
import subprocess
import sys
import time

NEEDED = 0.95
SECONDS = 120  # then a test counts as hanging; so does a launch of more warp instructions than BUDGET
BUDGET = 60_000_000

# What the kernels of a source file meet first, on a device that holds one block: test cases, and of the ops' samples
# those of some ops. A mutant that survives meets every test, on a device of usual size.
FIRST_TESTS = {
    "": ("elements*", ""),  # kernels of elementwise work, all from headers
    "attention.cu": ("device attention: lengths*,device attention: rows*,device attention: padding*,"
                     "device attention: more*,device attention: shared*,device attention: heads*,"
                     "device attention: one score*,device attention: NaN*", "attention*"),
    "channel_norm.cu": ("channel norm*,edges: norms*,edges: batch*", "batch_norm,group_norm"),
    "channel_norm_grad.cu": ("channel norm*,edges: norms*,edges: batch*", "batch_norm,group_norm"),
    "check_index.cu": ("device: the first bad*,device: an index*", "embedding,gather"),
    "clip.cu": ("device norm*,device clipping*", "none"),
    "conv2d.cu": ("dnn: conv2d*", "conv2d"),
    "drop_path.cu": ("device: dropout*,device: a recording draws*", "drop_path"),
    "dropout.cu": ("device: dropout*,device: what is dropped*,device: a recording draws*,residual: dropout*",
                   "dropout,residual"),
    "embedding.cu": ("device: embedding*", "embedding"),
    "extrema.cu": ("device: extrema*,edges: rows of every length are s*,edges: columns*,edges: short columns*,"
                   "edges: the largest*", "max,min,arg*"),
    "feed_forward.cu": ("device feed_forward with dropout*", "feed_forward_dropout"),
    "flash_backward.cu": ("flash attention*", "none"),
    "flash_forward.cu": ("flash attention*", "none"),
    "indexing.cu": ("device: gather*,device: scatter*,device: indices*,device: embedding*",
                    "gather,scatter*,index_select"),
    "layer_norm.cu": ("rows: *norm*,edges: rows of every length are n*", "layer_norm,rms_norm"),
    "layer_norm_grad.cu": ("rows: *norm*,edges: rows of every length are n*,residual: norms*,residual: rows*", "layer_norm,rms_norm"),
    "linear.cu": ("device linear*,device feed_forward*", "linear,feed_forward"),
    "optimizer.cu": ("device optimizers*", "none"),
    "pooling.cu": ("device pools*", "*pool2d"),
    "rdrop.cu": ("device losses: any number*,device losses: smoothing*,device losses: regression*,"
                 "device losses: units*,device losses: classes*,device losses: in place*,"
                 "device losses: the first error*,device losses: predictions*,device losses: a number*", "*rdrop*"),
    "reduce.cu": ("device: sums*,device: few sums*,edges: rows of every length are s*,edges: columns*,"
                  "edges: short columns*,edges: sums*", "sum,mean"),
    "residual.cu": ("residual: *", "residual"),
    "scan.cu": ("device: running*,edges: rows of every length are s*,edges: columns*", "cumsum"),
    "softmax.cu": ("rows: *softmax*,rows: *inf*,edges: rows of every length are n*,edges: the largest value*",
                   "*softmax,logsumexp"),
    "sort.cu": ("device: rows of every length*,device: NaN*,device: topk*", "sort,argsort,topk"),
}
SAMPLES = "device: every sample of*"

# Mistakes that only a device has are tried in every family that can have them, of the others some.
DEVICE_KINDS = {"array halved", "array one shorter", "atomic split", "barrier dropped", "commit dropped",
                "lanes left out", "matrix turned", "Philox constant", "quarters swapped", "shuffle distance",
                "shuffle dropped", "wait dropped", "warp barrier dropped", "zeroes copied"}

# Mutants that compute what the kernel computes, or whose path cannot be taken: name -> reason.
EQUIVALENT = {
    "attention softmax_rows / barrier dropped / softmax_rows<float, RowForm<Team<256>, 4, 4> > 3: bar.sync 0;":
        "the first barrier of the sum's block_reduce guards the parts of the row before, which those of the maximum, "
        "with parts of its own, have separated already",
    "attention softmax_rows / warp barrier dropped / softmax_rows<double, RowForm<Team<8>, 2, 4> > 1: bar.warp.sync "
    "-1;":
        "f64 is written where it was read, by the thread that read it; the barrier is for bf16, whose rows are "
        "narrower",
    "channel_norm moments_kernel / shuffle dropped / moments_kernel<double, RowForm<Team<512>, 1, 0> > 25: "
    "shfl.sync.bfly.b32 %r|%p, %r, %r, %r, %r;":
        "never launched: a piece has at most 1024 elements where they are no vectors (pieces_of), and teams of 512 "
        "take more",
    "channel_norm_grad sums_kernel / min for max / sums_kernel<bf16, 1, 32> 1: min.s64 %rd, %rd, %rd;":
        "teams of 32 take segments of at most 512 elements, which are one piece: its length and what is left are the "
        "same",
    "check_index check_few / shuffle distance / check_few 18: shfl.sync.bfly.b32 %r|%p, %r, %r, %r, %r;":
        "the upper half of a position, 0 in all: check_few has at most 2^14 indices",
    "check_index check_few / shuffle dropped / check_few 14: shfl.sync.bfly.b32 %r|%p, %r, %r, %r, %r;":
        "the upper half of a position, 0 in all: check_few has at most 2^14 indices",
    "clip nn::norm_kernel / barrier dropped / nn::norm_kernel 1: bar.sync 0;":
        "the first barrier of a block_reduce guards the parts of the one before, and there is only one",
    "extrema along_rows / shuffle distance / along_rows<false, long, 2, 8> 4: shfl.sync.bfly.b32 %r|%p, %r, %r, %r, "
    "%r;":
        "the upper half of an index, 0 in all: teams of 8 take rows of at most 32 elements",
    "extrema along_rows / difference swapped / along_rows<false, int, 1, 8> 2: sub.s64 %rd, %rd, %rd;":
        "counts rounds of the loop unrolled four times; teams of 8 take rows of at most 16 elements, two for a thread",
    "feed_forward column_sums_kernel / array one shorter / column_sums_kernel<double> 1: .shared .align 8 .b8 _[8448];":
        "the last element is padding against bank conflicts",
    "feed_forward column_sums_kernel / guard off by one / column_sums_kernel<float> 3: setp.lt.u64 %p, %rd, 96;":
        "counts rounds of the loop unrolled four times",
    "layer_norm_grad column_sums_kernel / guard off by one / column_sums_kernel<float> 3: setp.lt.u64 %p, %rd, 96;":
        "counts rounds of the loop unrolled four times",
    "layer_norm_grad column_sums_kernel / array one shorter / column_sums_kernel<double> 1: .shared .align 8 .b8 "
    "_[8448];":
        "the last element is padding against bank conflicts",
    "pooling max_kernel / min for max / max_kernel<bf16> 5: max.s64 %rd, %rd, 0;":
        "in the form for adaptive windows, which only means have",
    "pooling scatter_kernel / neighbour loaded / scatter_kernel<double> 6: ld.global.f64 %fd, [%rd];":
        "in the form for adaptive windows, which only means have",
    "reduce sum_rows / shuffle dropped / sum_rows<long, unsigned char, 8, 32> 10: shfl.sync.bfly.b32 %r|%p, %r, %r, "
    "%r, %r;":
        "the upper half of a sum, 0 in all: teams of 32 add at most 4096 bytes",
}

KINDS_OF_REPORTS = {
    "race": "race", "out of bounds": "bounds", "misaligned": "bounds", "null pointer": "bounds",
    "host pointer": "bounds", "use after free": "bounds", "uninitialised read": "uninitialised",
    "barrier": "barrier", "divergent barrier": "barrier", "warp collective": "barrier",
    "instruction budget": "hang",
}

Mutant = collections.namedtuple("Mutant", "id kind family name source before after")


def short(kernel):
    for words in ("tandem::", "cuda::", "detail::", "(anonymous namespace)::"):
        kernel = kernel.replace(words, "")
    return kernel


def family(source, kernel):
    """softmax.cu's softmax_kernel; of the one kernel of all elementwise work, what its functor does."""
    name = re.split(r"[<(]", kernel, maxsplit=1)[0]
    functor = re.match(r"map_kernel<\d+, (\w+)", kernel)
    if functor:
        return "map_kernel " + functor[1]
    return (source.removesuffix(".cu") + " " + name).strip()


def all_mutants(lister, library):
    text = subprocess.run([lister, library], check=True, capture_output=True, text=True).stdout
    seen = collections.Counter()
    for line in text.splitlines():
        number, kind, source, kernel, before, after = line.split("\t")
        if kernel.startswith("__internal"):
            continue  # the compiler's own, of pow() and sin()
        kernel = short(kernel)
        seen[kernel, kind, source] += 1
        before, after = (re.sub(r"\s+", " ", x).strip() for x in (before, after))
        # Registers are numbered anew by every change; the instruction without them tells when a name has come to
        # mean something else.
        plain = re.sub(r"%(\w*?)\d+", r"%\1", before)
        plain = re.sub(r"\b_Z\w+|\$L\w+", "_", plain)
        group = family(source, kernel)
        name = f"{group} / {kind} / {kernel} {seen[kernel, kind, source]}: {plain}"
        yield Mutant(number, kind, group, name, source, before, after)


def hashed(text):
    return hashlib.sha256(text.encode()).digest()


def chosen(mutants, others):
    groups = collections.defaultdict(lambda: collections.defaultdict(list))
    for m in mutants:
        groups[m.family][m.kind].append(m)
    for name, kinds in sorted(groups.items()):
        rest = sorted((kind for kind in kinds if kind not in DEVICE_KINDS), key=lambda kind: hashed(name + kind))
        for kind in sorted(DEVICE_KINDS & kinds.keys()) + sorted(rest[:others]):
            yield min(kinds[kind], key=lambda m: hashed(m.name))


def run(test, arguments, options=""):
    """What a run of the tests noticed, or None."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", CUDASIM=options)
    try:
        result = subprocess.run([test, "--device=cudasim", "--no-version", "--abort-after=1", *arguments],
                                env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "hang", f"no end after {SECONDS} s"
    if result.returncode == 0:
        return None
    text = result.stdout.decode(errors="replace")
    report = re.search(r"^cudasim: (.*?): (.*)", text, re.MULTILINE)
    if report:
        return KINDS_OF_REPORTS.get(report[1], report[1]), report[0]
    if result.returncode < 0:
        return "crash", f"signal {-result.returncode}"
    message = re.search(r"ERROR: (.*(?:\n.*){0,3})", text)
    return "values", message[1] if message else text[-300:]


def first_tests(source):
    cases, ops = FIRST_TESTS[source]
    return [f"-tc={SAMPLES},{cases}"] + ([f"-sc={ops}"] if ops else [])


def first_run(test, arguments, source, mistake=""):
    options = f"budget={BUDGET},multiprocessors=1,registers=255" + mistake
    return run(test, first_tests(source) + arguments, options)


def check_without_mistakes(test, arguments, sources, pool, first_only):
    """The tests pass without a mistake, within the same budget: or every mutant would seem noticed."""
    whole = None if first_only else pool.submit(run, test, arguments, f"budget={BUDGET}")
    firsts = pool.map(lambda source: first_run(test, arguments, source), sources)
    for source, wrong in [*zip(sources, firsts), ("all", whole and whole.result())]:
        if wrong:
            sys.exit(f"the tests of {source or 'elementwise kernels'} fail without a mistake, too: {wrong[1]}")


def try_mutant(test, arguments, mutant, first_only):
    start = time.monotonic()
    mistake = f",mutate={mutant.id}"
    noticed = first_run(test, arguments, mutant.source, mistake)
    if not noticed and not first_only and mutant.name not in EQUIVALENT:
        noticed = run(test, arguments, f"budget={BUDGET}" + mistake)
    return noticed, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lister")
    parser.add_argument("library")
    parser.add_argument("test")
    parser.add_argument("--only", default="", help="mutants whose name has one of these texts, with commas between")
    parser.add_argument("--others", type=int, default=1, help="kinds beside those of devices, in a family (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--first", action="store_true", help="survivors do not meet all tests")
    parser.add_argument("--verbose", action="store_true", help="also what was noticed, and the instructions")
    own = sys.argv[1:]
    rest = own.index("--") if "--" in own else len(own)
    options = parser.parse_args(own[:rest])
    options.arguments = own[rest + 1:]

    every = chosen(all_mutants(options.lister, options.library), options.others)
    mutants = [m for m in every if any(text in m.name for text in options.only.split(","))]
    if not mutants:
        sys.exit(f"no mutant's name has '{options.only}'")
    caught, survivors, equivalent, stale = collections.Counter(), [], [], []
    width = max((len(m.name) for m in mutants), default=0)
    width = min(width, 150)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        check_without_mistakes(options.test, options.arguments, sorted({m.source for m in mutants}), pool, options.first)
        results = pool.map(lambda m: try_mutant(options.test, options.arguments, m, options.first), mutants)
        for m, (noticed, seconds) in zip(mutants, results):
            if noticed:
                outcome = noticed[0]
                caught[outcome] += 1
                if m.name in EQUIVALENT:
                    stale.append(m)
            elif m.name in EQUIVALENT:
                outcome = "equivalent"
                equivalent.append(m)
            else:
                outcome = "SURVIVED"
                survivors.append(m)
            print(f"{m.name:{width}}  {outcome:13} {seconds:5.1f} s", flush=True)
            if options.verbose or outcome == "SURVIVED":
                print(f"    {m.id}: {m.before} -> {m.after}" + (f"\n    {noticed[1]}" if noticed else ""), flush=True)

    total = sum(caught.values()) + len(survivors)
    rate = sum(caught.values()) / max(total, 1)
    print(f"\n{len(mutants)} mutants of {len({m.family for m in mutants})} families of kernels: "
          f"{len(equivalent)} equivalent; of the other {total}, {total - len(survivors)} noticed ({100 * rate:.1f} %): "
          + ", ".join(f"{count} by {what}" for what, count in caught.most_common()))
    for m in equivalent:
        print(f"equivalent: {m.name}\n    {EQUIVALENT[m.name]}")
    for m in survivors:
        print(f"survived: {m.name}\n    {m.before} -> {m.after}")
    for m in stale:
        print(f"listed as equivalent, but noticed: {m.name}")
    sys.exit(rate < NEEDED or bool(stale))


if __name__ == "__main__":
    main()
