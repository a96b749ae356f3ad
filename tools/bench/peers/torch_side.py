"""PyTorch's side of the comparisons (tools/bench/peers/run, tools/gpu/bench): the same work, of the same sizes.

  torch_side.py [cpu|cuda]

Reads and answers the lines that tandem_side.cpp does. The kind of a case is eager, double (two forwards instead of a
repeated batch), compile (torch.compile) or graph (torch.compile with mode "reduce-overhead", which is CUDA graphs).
The R-Drop loss is that of the paper's code: cross-entropy of the repeated batch, and kl_div of the two halves'
log_softmax both ways.
"""
import gc
import math
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

DEVICE = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cpu")
CUDA = DEVICE.type == "cuda"
if "OMP_NUM_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # f32 is f32, as in Tandem
torch.manual_seed(0)


def rdrop_loss(logits, target, smoothing):
    """logits [2N, V] (two passes), target [N]; the mean over units, alpha 1, as Tandem divides it."""
    ce = F.cross_entropy(logits, torch.cat([target, target]), label_smoothing=smoothing)
    p, q = F.log_softmax(logits, -1).chunk(2)
    kl = F.kl_div(p, q, reduction="sum", log_target=True) + F.kl_div(q, p, reduction="sum", log_target=True)
    return ce + 0.5 * kl / 2 / target.numel()


class Attention(nn.Module):
    def __init__(self, dim, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q, self.k, self.v = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x, memory, causal=False):
        def split(y):
            return y.view(*y.shape[:2], self.heads, -1).transpose(1, 2)

        y = F.scaled_dot_product_attention(split(self.q(x)), split(self.k(memory)), split(self.v(memory)),
                                           dropout_p=self.dropout, is_causal=causal)
        return self.out(y.transpose(1, 2).flatten(2))


class PreNormLayer(nn.Module):
    def __init__(self, s, activation_dropout, causal):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(s.dim, eps=1e-6), nn.LayerNorm(s.dim, eps=1e-6)
        self.attention = Attention(s.dim, s.heads, s.attention_dropout)
        self.fc1, self.fc2 = nn.Linear(s.dim, s.mlp), nn.Linear(s.mlp, s.dim)
        self.p, self.activation_dropout, self.causal = s.dropout, activation_dropout, causal

    def forward(self, x):
        y = self.norm1(x)
        x = x + F.dropout(self.attention(y, y, self.causal), self.p)
        y = F.gelu(self.fc1(self.norm2(x)))
        if self.activation_dropout:
            y = F.dropout(y, self.activation_dropout)
        return x + F.dropout(self.fc2(y), self.p)


class Vit(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.patches = nn.Conv2d(3, s.dim, s.patch, s.patch)
        self.token = nn.Parameter(torch.zeros(1, 1, s.dim))
        self.positions = nn.Parameter(torch.randn(1, (s.image // s.patch) ** 2 + 1, s.dim) * 0.02)
        self.layers = nn.ModuleList(PreNormLayer(s, s.dropout, False) for _ in range(s.layers))
        self.norm, self.head, self.p = nn.LayerNorm(s.dim, eps=1e-6), nn.Linear(s.dim, s.classes), s.dropout

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = F.dropout(torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions, self.p)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x[:, 0]))


class LanguageModel(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.embedding = nn.Embedding(s.vocab, s.dim)
        nn.init.normal_(self.embedding.weight, 0, s.dim**-0.5)
        self.positions = nn.Parameter(torch.randn(s.tokens, s.dim) * 0.02)
        self.layers = nn.ModuleList(PreNormLayer(s, 0, True) for _ in range(s.layers))
        self.norm, self.p = nn.LayerNorm(s.dim, eps=1e-6), s.dropout

    def forward(self, ids):
        x = F.dropout(self.embedding(ids) + self.positions, self.p)
        for layer in self.layers:
            x = layer(x)
        return F.linear(self.norm(x), self.embedding.weight)


class PostNormLayer(nn.Module):
    """Encoder or decoder layer."""

    def __init__(self, s, cross):
        super().__init__()
        self.attention = Attention(s.dim, s.heads, s.attention_dropout)
        self.cross = Attention(s.dim, s.heads, s.attention_dropout) if cross else None
        self.fc1, self.fc2 = nn.Linear(s.dim, s.mlp), nn.Linear(s.mlp, s.dim)
        self.norms = nn.ModuleList(nn.LayerNorm(s.dim) for _ in range(3 if cross else 2))
        self.p = s.dropout

    def forward(self, x, memory=None):
        x = self.norms[0](x + F.dropout(self.attention(x, x, causal=memory is not None), self.p))
        if memory is not None:
            x = self.norms[1](x + F.dropout(self.cross(x, memory), self.p))
        return self.norms[-1](x + F.dropout(self.fc2(F.relu(self.fc1(x))), self.p))


class Transformer(nn.Module):
    """No mask of padding, which Tandem's has: its batches have no padding either."""

    def __init__(self, s):
        super().__init__()
        self.embedding = nn.Embedding(s.vocab, s.dim, padding_idx=0)
        nn.init.normal_(self.embedding.weight, 0, s.dim**-0.5)
        t, d = torch.arange(float(s.tokens))[:, None], torch.arange(0, s.dim, 2)
        angle = t * torch.exp(-math.log(10000.0) * d / s.dim)
        self.register_buffer("positions", torch.stack([angle.sin(), angle.cos()], -1).flatten(1))
        self.encoder = nn.ModuleList(PostNormLayer(s, False) for _ in range(s.layers))
        self.decoder = nn.ModuleList(PostNormLayer(s, True) for _ in range(s.layers))
        self.dim, self.p = s.dim, s.dropout

    def embed(self, ids):
        return F.dropout(self.embedding(ids) * math.sqrt(self.dim) + self.positions, self.p)

    def forward(self, source, target):
        memory = self.embed(source)
        for layer in self.encoder:
            memory = layer(memory)
        x = self.embed(target)
        for layer in self.decoder:
            x = layer(x, memory)
        return F.linear(x, self.embedding.weight)


class Sizes:
    """The sizes of a case as attributes."""

    def __init__(self, words):
        for word in words:
            name, value = word.split("=")
            if value.lstrip("-").isdigit():
                value = int(value)
            elif name.endswith("dropout"):
                value = float(value)
            setattr(self, name, value)
        self.dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[self.precision]

    def normal(self, *shape):
        return torch.randn(*shape, device=DEVICE, dtype=self.dtype)

    def ids(self, high, *shape, low=0):
        return torch.randint(low, high, shape, device=DEVICE)

    def autocast(self):
        return torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.precision == "bf16")

    def compiled(self, function):
        if self.kind == "compile":
            return torch.compile(function)
        return torch.compile(function, mode="reduce-overhead") if self.kind == "graph" else function


def training(s, model, inputs, target):
    """A step with AdamW."""
    model = model.to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    repeated = [torch.cat([x, x]) for x in inputs]
    target = target.flatten()

    def loss():
        with s.autocast():
            if s.kind == "double":
                logits = torch.cat([model(*inputs), model(*inputs)])
            else:
                logits = model(*repeated)
            return rdrop_loss(logits.flatten(0, -2), target, 0.1)

    run_loss = s.compiled(loss)

    def step():
        optimizer.zero_grad()
        run_loss().backward()
        optimizer.step()

    return step


def vit(s):
    images = torch.randn(s.batch, 3, s.image, s.image, device=DEVICE)
    return training(s, Vit(s), [images], s.ids(s.classes, s.batch))


def transformer(s):
    source, words, target = (s.ids(s.vocab, s.batch, s.tokens, low=1) for _ in range(3))
    return training(s, Transformer(s), [source, words], target)


def lm(s):
    ids, target = (s.ids(s.vocab, s.batch, s.tokens, low=1) for _ in range(2))
    return training(s, LanguageModel(s), [ids], target)


def rdrop(s):
    logits = s.normal(2 * s.units, s.classes).requires_grad_()
    target = s.ids(s.classes, s.units)

    def loss():
        with s.autocast():
            return rdrop_loss(logits, target, 0.0)

    run_loss = s.compiled(loss)

    def run():
        logits.grad = None
        run_loss().backward()

    return run


def attention(s):
    def heads():
        return s.normal(s.batch, s.tokens, s.heads, s.dim)

    q, k, v = (heads().requires_grad_() for _ in range(3))
    gradient = heads().transpose(1, 2)

    def run():
        q.grad = k.grad = v.grad = None
        F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
                                       dropout_p=s.attention_dropout, is_causal=bool(s.causal)).backward(gradient)

    return run


def copy(s):
    x = torch.ones(s.bytes // 4, device=DEVICE)
    y = torch.empty_like(x)
    return lambda: y.copy_(x)


def product(s):
    a, b = s.normal(s.size, s.size), s.normal(s.size, s.size)
    return lambda: a @ b


def tiny_op(_):
    x, v = torch.randn(8, device=DEVICE, requires_grad=True), torch.ones(8, device=DEVICE)

    def run():
        for _ in range(1000):
            x.grad = None
            (x * x).backward(v)

    return run


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


CASES = {f.__name__: f for f in (photos, vit, transformer, lm, rdrop, attention, copy, product, tiny_op)}


def build(text):
    name, *sizes = text.split()
    s = Sizes(sizes)
    run = CASES[name](s)
    for _ in range(6 if s.kind == "graph" else 3):  # a graph is recorded in the second or third run
        run()
    if CUDA:
        torch.cuda.empty_cache()  # others use the device, too
    return run


def seconds_of(run, runs):
    if not CUDA:
        start = time.perf_counter()
        for _ in range(runs):
            run()
        return (time.perf_counter() - start) / runs
    torch.cuda.synchronize()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(runs):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / runs


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
    main()
