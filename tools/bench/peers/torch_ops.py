"""Single ops on PyTorch's side, forward or forward and backward, of [rows, columns] unless said."""
import torch
import torch.nn.functional as F

from torch_common import DEVICE, compiled, fastest


def images(s):
    """As many numbers as [rows, columns]: [N, 64, 32, 32]."""
    return s.normal(s.rows * s.columns // (64 * 32 * 32), 64, 32, 32)


# Name of the op: inputs of its sizes, the first of which has a gradient, as have those that are weights; the function.
OPS = {
    "add": (lambda s: [s.normal(s.rows, s.columns), s.normal(s.rows, s.columns)], torch.add),
    "add_row": (lambda s: [s.normal(s.rows, s.columns), s.normal(s.columns)], torch.add),
    "mul": (lambda s: [s.normal(s.rows, s.columns), s.normal(s.rows, s.columns)], torch.mul),
    "relu": (lambda s: [s.normal(s.rows, s.columns)], F.relu),
    "gelu": (lambda s: [s.normal(s.rows, s.columns)], F.gelu),
    "softmax": (lambda s: [s.normal(s.rows, s.columns)], lambda x: torch.softmax(x, -1)),
    "softmax_columns": (lambda s: [s.normal(s.rows, s.columns)], lambda x: torch.softmax(x, 0)),
    "sum": (lambda s: [s.normal(s.rows, s.columns)], torch.sum),
    "cumsum": (lambda s: [s.normal(s.rows, s.columns)], lambda x: torch.cumsum(x, -1)),
    "sort": (lambda s: [s.normal(s.rows, s.columns)], lambda x: torch.sort(x, -1)[0]),
    "transpose": (lambda s: [s.normal(s.rows, s.columns)], lambda x: x.t().contiguous()),
    "layer_norm": (lambda s: [s.normal(s.rows, s.columns), s.normal(s.columns), s.normal(s.columns)],
                   lambda x, w, b: F.layer_norm(x, w.shape, w, b)),
    "embedding": (lambda s: [s.normal(10000, s.columns), s.ids(10000, s.rows)], lambda w, ids: F.embedding(ids, w)),
    "matmul": (lambda s: [s.normal(s.columns, s.columns), s.normal(s.columns, s.columns)], torch.matmul),
    "max_pool2d": (lambda s: [images(s)], lambda x: F.max_pool2d(x, 2)),
    "conv2d": (lambda s: [images(s), s.normal(64, 64, 3, 3)], lambda x, w: F.conv2d(x, w, padding=1)),
}


def op(s):
    inputs, function = OPS[s.name][0](s), OPS[s.name][1]
    for x in inputs:
        x.requires_grad_(bool(s.backward) and x.is_floating_point())
    with torch.no_grad():
        cotangent = torch.randn_like(function(*inputs))

    def way(function, inputs, cotangent):
        def forward():
            with torch.no_grad():
                function(*inputs)

        def both():
            for x in inputs:
                x.grad = None
            function(*inputs).backward(cotangent)

        return both if s.backward else forward

    eager = way(function, inputs, cotangent)
    if not s.best:
        return eager
    ways = {"eager": eager, "compiled": way(compiled(lambda *inputs: function(*inputs)), inputs, cotangent)}
    if any(x.dim() == 4 for x in inputs):
        last = [x.detach().contiguous(memory_format=torch.channels_last).requires_grad_(x.requires_grad) for x in inputs]
        ways["channels last"] = way(function, last, cotangent.contiguous(memory_format=torch.channels_last))
    return fastest(ways, s.case)


def adamw(s):
    """The update alone, of a parameter [rows, columns]."""
    parameter = torch.nn.Parameter(s.normal(s.rows, s.columns))
    parameter.grad = s.normal(s.rows, s.columns)
    optimizer = torch.optim.AdamW([parameter], fused=True)
    return optimizer.step


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
