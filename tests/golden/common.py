"""What the golden cases share: seeded inputs, the JSON form of a tensor, recording a case."""
import json
import math
import random

import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

DTYPES = {torch.float64: "f64", torch.int64: "i64", torch.bool: "bool"}


class Source:
    """Seeded by a case's name, so that adding a case changes no other.

    Values have five decimals (short in the file) and within one case no magnitude occurs twice and
    none is 0: nothing sits on a kink (relu, abs, clamp) or on a tie (max, max_pool2d, topk).
    """

    def __init__(self, name):
        self.random = random.Random(name)
        self.seen = {0.0}

    def draw(self, one, shape):
        data = []
        while len(data) < math.prod(shape):
            x = round(one(), 5)
            if abs(x) not in self.seen:
                self.seen.add(abs(x))
                data.append(x)
        return torch.tensor(data).reshape(shape)

    def normal(self, shape, scale=1.0):
        return self.draw(lambda: self.random.gauss(0.0, scale), shape)


# Descriptions of inputs: functions of a Source. A plain tuple means normal(*tuple).
def normal(*shape, scale=1.0):
    return lambda source: source.normal(shape, scale)


def uniform(*shape, low=0.1, high=2.0):
    return lambda source: source.draw(lambda: source.random.uniform(low, high), shape)


def probabilities(*shape):
    return lambda source: torch.softmax(source.normal(shape), -1)


def integers(*shape, high):
    return lambda source: torch.tensor(
        [source.random.randrange(high) for _ in range(math.prod(shape))]).reshape(shape)


def exactly(data):
    """These values; integers become i64, True/False become bool."""
    return lambda source: torch.tensor(data)


def constant(description):
    """An f64 input that no gradient is asked of."""
    def make(source):
        tensor = build(description, source)
        tensor.is_constant = True
        return tensor
    return make


def build(description, source):
    return normal(*description)(source) if isinstance(description, tuple) else description(source)


def number(x):
    """JSON has no infinity: non-finite numbers are the strings "inf", "-inf", "nan"."""
    return repr(x) if isinstance(x, float) and not math.isfinite(x) else x


def encode(tensor):
    if tensor is None:
        return None
    data = tensor.detach().flatten()
    data = data.to(torch.int64) if tensor.dtype == torch.bool else data
    return {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape),
            "data": [number(x) for x in data.tolist()]}


def vjp(outputs, inputs, source):
    """A random cotangent per differentiable output and the gradient per input; None where there is none.

    Never ones: they hide mistakes, softmax's gradient for instance is then 0.
    """
    cotangents = [source.normal(y.shape) if y.requires_grad else None for y in outputs]
    wanted = [x for x in inputs if x.requires_grad]
    pairs = [(y, c) for y, c in zip(outputs, cotangents) if c is not None]
    if not pairs:
        return cotangents, [None] * len(inputs)
    found = iter(torch.autograd.grad([y for y, _ in pairs], wanted, [c for _, c in pairs]))
    return cotangents, [next(found) if x.requires_grad else None for x in inputs]


def write(path, cases):
    """One case per line: readable differences, no white space to pay for."""
    lines = [json.dumps(case, separators=(",", ":"), allow_nan=False) for case in cases]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size:,} bytes")
