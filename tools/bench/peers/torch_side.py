"""PyTorch's side of tools/bench/peers/run: the same work, of the same sizes, dropout on.

Reads the name of a case from each line of standard input, runs it once and answers with the seconds it took.
A case is built and warmed up (and compiled) when it is first named. The R-Drop loss is the one of the paper's
code: cross-entropy of the repeated batch, and kl_div of the two halves' log_softmax both ways.
"""
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(int(sys.argv[1]))
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


class VitBlock(nn.Module):
    def __init__(self, dim, heads, hidden, p):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads, p)
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.p = p

    def forward(self, x):
        y = self.norm1(x)
        x = x + F.dropout(self.attention(y, y), self.p)
        y = F.dropout(F.gelu(self.fc1(self.norm2(x))), self.p)
        return x + F.dropout(self.fc2(y), self.p)


class Vit(nn.Module):
    def __init__(self, dim=192, depth=6, heads=3, hidden=768, p=0.1):
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, 65, dim) * 0.02)
        self.blocks = nn.ModuleList(VitBlock(dim, heads, hidden, p) for _ in range(depth))
        self.norm, self.head, self.p = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, 10), p

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = F.dropout(torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions, self.p)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


class Layer(nn.Module):
    """Post-norm encoder or decoder layer; no dropout on the attention's probabilities."""

    def __init__(self, dim, heads, hidden, p, cross):
        super().__init__()
        self.attention = Attention(dim, heads, 0)
        self.cross = Attention(dim, heads, 0) if cross else None
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3 if cross else 2))
        self.p = p

    def forward(self, x, memory=None):
        x = self.norms[0](x + F.dropout(self.attention(x, x, causal=memory is not None), self.p))
        if memory is not None:
            x = self.norms[1](x + F.dropout(self.cross(x, memory), self.p))
        return self.norms[-1](x + F.dropout(self.fc2(F.relu(self.fc1(x))), self.p))


class Transformer(nn.Module):
    def __init__(self, vocab=10000, dim=256, heads=4, hidden=1024, depth=3, p=0.3):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim, padding_idx=0)
        nn.init.normal_(self.embedding.weight, 0, dim**-0.5)
        t, d = torch.arange(256.0)[:, None], torch.arange(0, dim, 2)
        angle = t * torch.exp(-math.log(10000.0) * d / dim)
        self.register_buffer("positions", torch.stack([angle.sin(), angle.cos()], -1).flatten(1))
        self.encoder = nn.ModuleList(Layer(dim, heads, hidden, p, False) for _ in range(depth))
        self.decoder = nn.ModuleList(Layer(dim, heads, hidden, p, True) for _ in range(depth))
        self.dim, self.p = dim, p

    def embed(self, ids):
        x = self.embedding(ids) * math.sqrt(self.dim) + self.positions[: ids.shape[1]]
        return F.dropout(x, self.p)

    def forward(self, source, target):
        memory = self.embed(source)
        for layer in self.encoder:
            memory = layer(memory)
        x = self.embed(target)
        for layer in self.decoder:
            x = layer(x, memory)
        return F.linear(x, self.embedding.weight)


def training(model, inputs, target, kind):
    """A step with AdamW. kind: eager, compile, bf16 (autocast), double (two forwards instead of a repeat)."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    repeated = [torch.cat([x, x]) for x in inputs]
    target = target.flatten()

    def loss():
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
            if kind == "double":
                logits = torch.cat([model(*inputs), model(*inputs)])
            else:
                logits = model(*repeated)
            return rdrop_loss(logits.flatten(0, -2), target, 0.1)

    run_loss = torch.compile(loss) if kind == "compile" else loss

    def step():
        optimizer.zero_grad()
        run_loss().backward()
        optimizer.step()

    return step


def vit(kind):
    return training(Vit(), [torch.randn(64, 3, 32, 32)], torch.randint(10, (64,)), kind)


def transformer(kind):
    ids = [torch.randint(1, 10000, (128, 32)) for _ in range(3)]
    return training(Transformer(), ids[:2], ids[2], kind)


def loss(units, classes, kind):
    logits = torch.randn(2 * units, classes, requires_grad=True)
    target = torch.randint(classes, (units,))
    function = torch.compile(rdrop_loss) if kind == "compile" else rdrop_loss

    def run():
        logits.grad = None
        function(logits, target, 0.0).backward()

    return run


def tiny(_):
    x, v = torch.randn(8, requires_grad=True), torch.ones(8)

    def run():
        for _ in range(1000):
            x.grad = None
            (x * x).backward(v)

    return run


def make(name):
    case, kind = name.split()
    if case.startswith("loss_"):
        classes = int(case[5:])
        return loss({10152: 2048, 32768: 1024}[classes], classes, kind)
    return {"vit": vit, "transformer": transformer, "tiny": tiny}[case](kind)


ready = {}
for line in sys.stdin:
    name = line.strip()
    if name not in ready:
        ready[name] = make(name)
        for _ in range(3 if name.endswith("compile") else 2):
            ready[name]()
    start = time.perf_counter()
    ready[name]()
    print(time.perf_counter() - start, flush=True)
