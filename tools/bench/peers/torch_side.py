"""PyTorch's side of the comparisons (tools/bench/peers/run, tools/gpu/bench): the same work, of the same sizes.

  torch_side.py [cpu|cuda]
  torch_side.py --check      the lean loss beside autograd, in f64

Reads and answers the lines that tandem_side.cpp does. The kind of a case is eager (as people run it), compile
(torch.compile), graph (torch.compile with mode "reduce-overhead", which is CUDA graphs), best (all that makes it
faster: torch_models.py, torch_loss.py) or packed (best, without padding).
"""
import gc
import sys

import torch

from torch_common import CUDA, Sizes, seconds_of
from torch_loss import check, rdrop
from torch_models import cnn, decode, encoder, lm, padded_transformer, transformer, vit, vit_inference
from torch_ops import adamw, attention, copy, op, product, tiny_op


def photos(s):
    """torchvision's loader of a folder, with as many workers as threads; ours holds a fifth of the photos out."""
    from torchvision import datasets, transforms
    by = transforms.InterpolationMode.BILINEAR if s.resize == "bilinear" else transforms.InterpolationMode.BICUBIC
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = datasets.ImageFolder(s.folder, transforms.Compose([
        transforms.RandomResizedCrop(s.image, interpolation=by), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalise]))
    held_out = [i for i in range(len(found)) if i % 5 != 0]
    loader = torch.utils.data.DataLoader(torch.utils.data.Subset(found, held_out), s.batch, shuffle=True, persistent_workers=True,
                                         num_workers=torch.get_num_threads())

    def run():
        for _ in loader:
            pass

    return run


CASES = {f.__name__: f for f in (photos, vit, cnn, transformer, padded_transformer, lm, encoder, vit_inference, decode, rdrop,
                                 op, adamw, attention, copy, product, tiny_op)}


def build(text):
    name, *sizes = text.split()
    s = Sizes(sizes)
    s.case = text
    if s.best:
        torch.set_flush_denormal(True)
    run = CASES[name](s)
    for _ in range(6 if s.kind == "graph" else 3):  # a graph is recorded in the second or third run
        run()
    if CUDA:
        torch.cuda.empty_cache()  # others use the device, too
    return run


def main():
    ready = {}
    for line in sys.stdin:
        line = line.strip()
        if line == "drop":
            ready.clear()
            torch.compiler.reset()
            gc.collect()
            if CUDA:
                torch.cuda.empty_cache()
            print("dropped", flush=True)
            continue
        runs, text = line.split(" ", 1)
        try:
            if text not in ready:
                ready[text] = build(text)
            print(seconds_of(ready[text], int(runs)), flush=True)
        except Exception as error:
            print("error:", type(error).__name__, str(error).strip().split("\n")[0], flush=True)
            raise


if __name__ == "__main__":
    check() if "--check" in sys.argv else main()
