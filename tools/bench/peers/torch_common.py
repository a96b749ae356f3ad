"""What the parts of PyTorch's side share: the device, the sizes of a case, how a case is compiled."""
import json
import os
import sys
import time
from pathlib import Path

import torch

DEVICE = torch.device(next((a for a in sys.argv[1:] if not a.startswith("-")), "cpu"))
CUDA = DEVICE.type == "cuda"
if "OMP_NUM_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # f32 is f32, as in Tandem
torch.manual_seed(0)


class Sizes:
    """The sizes of a case as attributes."""

    passes = 2

    def __init__(self, words):
        for word in words:
            name, value = word.split("=")
            if value.lstrip("-").isdigit():
                value = int(value)
            elif name.endswith("dropout"):
                value = float(value)
            setattr(self, name, value)
        self.dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[self.precision]
        self.best = self.kind in ("best", "packed")

    def normal(self, *shape):
        return torch.randn(*shape, device=DEVICE, dtype=self.dtype)

    def ids(self, high, *shape, low=0):
        return torch.randint(low, high, shape, device=DEVICE)

    def autocast(self):
        return torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.precision == "bf16")

    def compiled(self, function):
        if self.kind == "eager":
            return function
        return compiled(function, mode="reduce-overhead" if self.kind == "graph" else "default")


def compiled(function, **options):
    import torch._dynamo
    torch._dynamo.config.recompile_limit = 1000  # the same lines are compiled for many sizes
    return torch.compile(function, dynamic=False, **options)


def fastest(runs, case):
    """The one of several ways to do the same that takes the least time here; of some, compiling may fail. Once chosen it
    is that of other processes, too, where a file for it is named."""
    file = Path(os.environ.get("PEERS_FASTEST", os.devnull))
    known = json.loads(file.read_text() or "{}") if file.exists() else {}
    if case in known:
        return runs[known[case]]
    times = {}
    # One thread may share its core with others, whose time does not count.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for name, run in runs.items():
        try:
            run(), run()
            times[name] = min(seconds_of(run, 1, clock) for _ in range(3))
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error).strip().splitlines()[0]}", file=sys.stderr)
    print(", ".join(f"{name} {1e3 * t:.3f} ms" for name, t in times.items()), file=sys.stderr, flush=True)
    best = min(times, key=times.get)
    file.write_text(json.dumps(known | {case: best}))
    return runs[best]


def seconds_of(run, runs, clock=time.perf_counter):
    if not CUDA:
        start = clock()
        for _ in range(runs):
            run()
        return (clock() - start) / runs
    torch.cuda.synchronize()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(runs):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / runs
