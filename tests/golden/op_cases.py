"""One case per op and way of calling it; the names and arguments are PyTorch's."""
import math

import torch
import torch.nn.functional as F

from common import (Source, build, constant, encode, exactly, integers, normal, number,
                    probabilities, uniform, vjp)

cases = []


def case(op, function, *descriptions, **args):
    source = Source(f"{op}/{sum(c['op'] == op for c in cases)}")
    inputs = [build(d, source) for d in descriptions]
    for x in inputs:
        x.requires_grad_(x.is_floating_point() and not hasattr(x, "is_constant"))
    outputs = function(*inputs, **args)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    cotangents, grads = vjp(outputs, inputs, source)
    assert all(g is None or g.any() for g in grads), f"{op}: a gradient is 0 and would test nothing"
    cases.append({"op": op, "args": {k: number(v) for k, v in args.items()},
                  "inputs": [encode(t) for t in inputs], "outputs": [encode(t) for t in outputs],
                  "cotangents": [encode(t) for t in cotangents], "grads": [encode(t) for t in grads]})


def elementwise():
    for op in ["add", "sub", "mul", "div", "pow", "maximum", "minimum"]:
        for a, b in [((3, 4), (3, 4)), ((4, 3), (3, )), ((2, 1, 5), (4, 1)), ((), (3, 3))]:
            left = uniform(*a) if op == "pow" else a
            right = uniform(*b) if op == "div" else b
            case(op, getattr(torch, op), left, right)
    for exponent in [2.0, 3.0, -1.5, 0.5]:
        case("pow", torch.pow, uniform(2, 3), exponent=exponent)
    for op in ["neg", "abs", "exp", "expm1", "sin", "cos", "tanh", "sigmoid", "erf", "reciprocal", "square"]:
        case(op, getattr(torch, op), (3, 4))
    for op in ["log", "log1p", "sqrt", "rsqrt"]:
        case(op, getattr(torch, op), uniform(3, 4))
    for op in ["expm1", "log1p"]:
        case(op, getattr(torch, op), exactly([1e-12, -1e-9, 3e-5]))
    for op in ["tanh", "sigmoid", "erf"]:
        case(op, getattr(torch, op), exactly([-40.0, -6.5, 1e-9, 4.25, 40.0]))

    for op in ["relu", "silu", "softplus"]:
        case(op, getattr(F, op), (3, 4))
        case(op, getattr(F, op), exactly([-90.0, -19.5, 1e-9, 19.5, 90.0]))
    for approximate in ["none", "tanh"]:
        case("gelu", F.gelu, normal(3, 4, scale=2.0), approximate=approximate)
        case("gelu", F.gelu, exactly([-9.0, -5.5, 1e-9, 5.5, 9.0]), approximate=approximate)
    case("leaky_relu", F.leaky_relu, (3, 4), negative_slope=0.01)
    case("leaky_relu", F.leaky_relu, (3, 4), negative_slope=0.3)
    case("elu", F.elu, (3, 4), alpha=1.0)
    case("elu", F.elu, (3, 4), alpha=0.7)
    case("clamp", torch.clamp, (3, 4), min=-0.5, max=0.75)
    case("clamp", torch.clamp, (3, 4), min=0.1)
    case("clamp", torch.clamp, (3, 4), max=-0.1)

    condition = exactly([[True, False, True], [False, False, True]])
    case("where", torch.where, condition, (2, 3), (2, 3))
    case("where", torch.where, condition, (3, ), (2, 1))
    case("where", torch.where, exactly([[True], [False]]), (2, 3), ())
    case("masked_fill", torch.masked_fill, (2, 3), condition, value=-2.5)
    case("masked_fill", torch.masked_fill, (2, 2, 3), condition, value=-math.inf)
    case("masked_fill", torch.masked_fill, (2, 3), exactly([True, False, True]), value=0.0)

    for op in ["eq", "ne", "lt", "le", "gt", "ge"]:
        compare = getattr(torch, op)
        case(op, compare, constant(exactly([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])),
             constant(exactly([1.0, 2.5, 2.0])))
        case(op, compare, exactly([[1, 2, 3], [3, 2, 1]]), exactly([[3], [2]]))


def products():
    for a, b in [((2, 3), (3, 4)), ((2, 2, 3), (2, 3, 4)), ((2, 2, 3), (3, 4)), ((2, 3), (2, 3, 4)),
                 ((2, 1, 2, 3), (3, 3, 2)), ((3, ), (3, )), ((2, 3), (3, )), ((3, ), (3, 2)),
                 ((2, 2, 3), (3, )), ((3, ), (2, 3, 2)), ((1, 1), (1, 3)), ((5, 7), (7, 6))]:
        case("matmul", torch.matmul, a, b)
    case("linear", F.linear, (2, 3), (4, 3), (4, ))
    case("linear", F.linear, (2, 3), (4, 3))
    case("linear", F.linear, (2, 2, 3), (4, 3), (4, ))
    case("linear", F.linear, (3, ), (4, 3), (4, ))


def reductions():
    for op in ["sum", "mean"]:
        function = getattr(torch, op)
        case(op, function, (2, 3, 4))
        case(op, function, (2, 3, 4), dim=[1], keepdim=False)
        case(op, function, (2, 3, 4), dim=[0, -1], keepdim=False)
        case(op, function, (2, 3, 4), dim=[0, 2], keepdim=True)
    for op in ["max", "min"]:
        function = getattr(torch, op)
        case(op, function, (2, 3, 4))
        case(op, function, (2, 3, 4), dim=1, keepdim=False)
        case(op, function, (2, 3, 4), dim=-1, keepdim=True)
    for op in ["amax", "amin"]:
        function = getattr(torch, op)
        case(op, function, (2, 3, 4), dim=[0, 2], keepdim=False)
        case(op, function, (2, 3, 4), dim=[1], keepdim=True)
        # Ties share the gradient evenly.
        case(op, function, exactly([[1.0, 3.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]]), dim=[1], keepdim=False)
    case("argmax", torch.argmax, constant((2, 3, 4)))
    case("argmax", torch.argmax, constant((2, 3, 4)), dim=1, keepdim=False)
    case("argmax", torch.argmax, constant((2, 3, 4)), dim=-1, keepdim=True)
    case("topk", torch.topk, (3, 5), k=2, dim=-1, largest=True)
    case("topk", torch.topk, (4, 3), k=3, dim=0, largest=True)
    case("topk", torch.topk, (3, 5), k=2, dim=-1, largest=False)
    case("logsumexp", torch.logsumexp, (2, 3, 4), dim=[-1], keepdim=False)
    case("logsumexp", torch.logsumexp, (2, 3, 4), dim=[0, 1], keepdim=True)
    case("logsumexp", torch.logsumexp, exactly([[1000.0, 999.5, -1000.0], [-800.0, -801.0, -802.5]]),
         dim=[1], keepdim=False)
    for op in ["var", "std"]:
        function = getattr(torch, op)
        for unbiased in [True, False]:
            case(op, function, (2, 3, 4), unbiased=unbiased)
            case(op, function, (2, 3, 4), dim=[1], unbiased=unbiased, keepdim=False)
            case(op, function, (2, 3, 4), dim=[0, 2], unbiased=unbiased, keepdim=True)
    case("prod", torch.prod, (2, 3))
    case("prod", torch.prod, (2, 3, 2), dim=1, keepdim=False)
    case("prod", torch.prod, (2, 3), dim=-1, keepdim=True)
    # With one factor 0 that factor alone has a gradient; with two no factor has.
    case("prod", torch.prod, exactly([[2.0, 0.0, -3.0], [0.0, 4.0, 0.0], [1.5, -2.0, 0.5]]), dim=1, keepdim=False)
    case("cumsum", torch.cumsum, (3, 4), dim=0)
    case("cumsum", torch.cumsum, (2, 3, 4), dim=-1)


def rms_norm(x, weight=None, *, normalized_shape, eps):
    dims = list(range(-len(normalized_shape), 0))
    y = x * torch.rsqrt(x.square().mean(dims, keepdim=True) + eps)
    return y if weight is None else y * weight


def layer_norm(x, weight=None, bias=None, *, normalized_shape, eps):
    return F.layer_norm(x, normalized_shape, weight, bias, eps)


def group_norm(x, weight=None, bias=None, *, num_groups, eps):
    return F.group_norm(x, num_groups, weight, bias, eps)


def batch_norm(x, weight, bias, running_mean, running_var, **args):
    mean, var = running_mean.clone(), running_var.clone()
    return F.batch_norm(x, mean, var, weight, bias, **args), mean, var


def normalisations():
    for op in ["softmax", "log_softmax"]:
        function = getattr(torch, op)
        case(op, function, (2, 3), dim=-1)
        case(op, function, (2, 3, 4), dim=1)
        case(op, function, (2, 3, 4), dim=0)
        case(op, function, exactly([[1000.0, 999.0, -1000.0], [-700.0, -700.5, -702.0]]), dim=1)
    case("softmax", torch.softmax, exactly([[0.5, -math.inf, 1.0], [-math.inf, 2.0, -math.inf]]), dim=-1)

    case("layer_norm", layer_norm, (2, 3, 5), (5, ), (5, ), normalized_shape=[5], eps=1e-5)
    case("layer_norm", layer_norm, (2, 3, 4), (3, 4), (3, 4), normalized_shape=[3, 4], eps=0.1)
    case("layer_norm", layer_norm, (4, 6), normalized_shape=[6], eps=1e-6)
    case("rms_norm", rms_norm, (2, 3, 5), (5, ), normalized_shape=[5], eps=1e-6)
    case("rms_norm", rms_norm, (4, 6), (6, ), normalized_shape=[6], eps=0.1)
    case("rms_norm", rms_norm, (2, 4), normalized_shape=[4], eps=1e-5)
    case("group_norm", group_norm, (2, 4, 3), (4, ), (4, ), num_groups=2, eps=1e-5)
    case("group_norm", group_norm, (2, 6, 2, 2), (6, ), (6, ), num_groups=3, eps=0.1)
    case("group_norm", group_norm, (2, 4, 2, 2), num_groups=4, eps=1e-5)
    for training in [True, False]:
        for shape in [(6, 3), (3, 2, 4), (2, 3, 2, 3)]:
            channel = (shape[1], )
            case("batch_norm", batch_norm, shape, channel, channel, constant(channel),
                 constant(uniform(*channel)), training=training, momentum=0.1, eps=1e-5)
    case("batch_norm", batch_norm, (4, 3), (3, ), (3, ), constant((3, )), constant(uniform(3)),
         training=True, momentum=0.4, eps=0.1)


def convolutions():
    def conv(x, weight, bias, **args):
        case("conv2d", F.conv2d, x, weight, *([bias] if bias else []),
             **{"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1, **args})
    conv((2, 2, 5, 5), (3, 2, 3, 3), (3, ))
    conv((1, 2, 5, 6), (3, 2, 3, 3), (3, ), stride=[2, 2], padding=[1, 1])
    conv((1, 2, 6, 7), (2, 2, 3, 2), None, stride=[2, 1], padding=[0, 1])
    conv((1, 1, 7, 7), (2, 1, 3, 3), (2, ), padding=[2, 2], dilation=[2, 2])
    conv((1, 4, 4, 4), (6, 2, 3, 3), (6, ), padding=[1, 1], groups=2)
    conv((1, 3, 4, 4), (3, 1, 3, 3), (3, ), padding=[1, 1], groups=3)
    conv((2, 3, 2, 3), (4, 3, 1, 1), (4, ))
    conv((2, 2, 4, 4), (5, 2, 2, 2), (5, ), stride=[2, 2])
    for op in ["max_pool2d", "avg_pool2d"]:
        function = getattr(F, op)
        case(op, function, (2, 2, 4, 4), kernel_size=[2, 2], stride=[2, 2], padding=[0, 0])
        case(op, function, (1, 2, 5, 6), kernel_size=[3, 3], stride=[2, 2], padding=[1, 1])
        case(op, function, (1, 2, 4, 5), kernel_size=[2, 3], stride=[1, 2], padding=[0, 0])
    case("avg_pool2d", F.avg_pool2d, (1, 2, 5, 6), kernel_size=[3, 3], stride=[2, 2], padding=[1, 1],
         count_include_pad=False)
    case("adaptive_avg_pool2d", F.adaptive_avg_pool2d, (2, 3, 4, 5), output_size=[1, 1])


def embedding(index, weight, **args):
    return F.embedding(index, weight, **args)


def slicing(x, *, dim, start, end, step):
    return x[(slice(None), ) * dim + (slice(start, end, step), )]


def arrangements():
    index = exactly([[1, 4, 0], [4, 4, 2]])
    case("embedding", embedding, index, (5, 3))
    case("embedding", embedding, index, (5, 3), padding_idx=4)
    case("cat", lambda *x, dim: torch.cat(x, dim), (2, 3), (2, 1), (2, 2), dim=-1)
    case("cat", lambda *x, dim: torch.cat(x, dim), (1, 2, 3), (2, 2, 3), dim=0)
    case("stack", lambda *x, dim: torch.stack(x, dim), (2, 3), (2, 3), dim=0)
    case("stack", lambda *x, dim: torch.stack(x, dim), (2, 3), (2, 3), (2, 3), dim=-1)
    case("split", torch.split, (5, 3), split_size_or_sections=2, dim=0)
    case("split", torch.split, (2, 6), split_size_or_sections=[1, 3, 2], dim=1)
    case("slice", slicing, (4, 5), dim=0, start=1, end=3, step=1)
    case("slice", slicing, (2, 7), dim=1, start=1, end=7, step=2)
    case("slice", slicing, (2, 7), dim=1, start=-4, end=-1, step=1)
    case("gather", lambda x, i, dim: torch.gather(x, dim, i), (3, 4), exactly([[0, 0, 3], [2, 1, 2]]), dim=1)
    case("gather", lambda x, i, dim: torch.gather(x, dim, i), (3, 4), exactly([[2, 0, 1, 2]]), dim=0)
    scatter_index = exactly([[3, 0], [1, 2], [0, 1]])
    case("scatter", lambda x, i, src, dim: x.scatter(dim, i, src), (3, 4), scatter_index, (3, 2), dim=1)
    case("scatter", lambda x, i, src, dim: x.scatter(dim, i, src), (4, 2), scatter_index, (3, 2), dim=0)
    case("index_select", lambda x, i, dim: x.index_select(dim, i), (4, 3), exactly([3, 0, 3, 1, 3]), dim=0)
    case("index_select", lambda x, i, dim: x.index_select(dim, i), (2, 3, 2), exactly([2, 0]), dim=1)
    case("pad", F.pad, (2, 3), pad=[1, 2], value=0.0)
    case("pad", F.pad, (2, 3, 2), pad=[1, 0, 2, 1], value=0.5)
    case("permute", torch.permute, (2, 3, 4), dims=[2, 0, 1])
    case("permute", torch.permute, (2, 3, 1, 2), dims=[0, -2, 3, 1])
    case("reshape", torch.reshape, (2, 3, 4), shape=[4, -1])
    case("transpose", torch.transpose, (2, 3, 4), dim0=0, dim1=-1)
    case("expand", lambda x, size: x.expand(size), (3, 1), size=[2, 3, 4])
    case("expand", lambda x, size: x.expand(size), (1, 3), size=[4, -1])
    case("flip", torch.flip, (2, 3, 4), dims=[0, 2])


def attention(q, k, v, ignored=None, *, causal):
    """softmax(q kᵀ / √d) v; `ignored` [batch, keys] is True at keys nobody may look at."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if ignored is not None:
        scores = scores.masked_fill(ignored[:, None, None, :], -math.inf)
    if causal:
        future = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, -math.inf)
    return torch.softmax(scores, -1) @ v


def attentions():
    q, kv = (2, 2, 4, 3), (2, 2, 5, 3)
    ignored4 = exactly([[False, False, False, True], [False, False, True, True]])
    ignored5 = exactly([[True, False, False, True, False], [False, False, False, True, True]])
    case("scaled_dot_product_attention", attention, q, q, q, causal=False)
    case("scaled_dot_product_attention", attention, q, kv, (2, 2, 5, 2), causal=False)
    case("scaled_dot_product_attention", attention, q, q, q, causal=True)
    case("scaled_dot_product_attention", attention, q, kv, kv, ignored5, causal=False)
    case("scaled_dot_product_attention", attention, q, q, q, ignored4, causal=True)


def losses():
    target = exactly([2, 0, -100, 4, 1])
    for reduction in ["mean", "sum", "none"]:
        case("cross_entropy", F.cross_entropy, (5, 6), integers(5, high=6), reduction=reduction,
             ignore_index=-100, label_smoothing=0.0)
        case("cross_entropy", F.cross_entropy, (5, 6), target, reduction=reduction,
             ignore_index=-100, label_smoothing=0.0)
        case("cross_entropy", F.cross_entropy, (5, 6), target, reduction=reduction,
             ignore_index=-100, label_smoothing=0.2)
        case("nll_loss", lambda x, t, **args: F.nll_loss(x, t, **args), (5, 6), target,
             reduction=reduction, ignore_index=-100)
        case("mse_loss", F.mse_loss, (3, 4), (3, 4), reduction=reduction)
        case("binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits, (3, 4),
             constant(uniform(3, 4, low=0.0, high=1.0)), reduction=reduction)
    case("cross_entropy", F.cross_entropy, (4, 6), exactly([3, 3, 0, 5]), reduction="mean",
         ignore_index=3, label_smoothing=0.1)
    case("binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits,
         exactly([-200.0, 200.0, 30.0, -30.0]), constant(exactly([0.0, 1.0, 0.0, 1.0])), reduction="mean")
    for reduction in ["batchmean", "sum", "none"]:
        case("kl_div", lambda x, t, **args: F.kl_div(x, t, **args), (3, 4), probabilities(3, 4),
             reduction=reduction, log_target=False)
    case("kl_div", lambda x, t, **args: F.kl_div(x, t, **args), (3, 4), (3, 4),
         reduction="sum", log_target=True)


def brackets(at, tensors):
    """What stands in x[...]: "t" is the next of the tensors, a list a slice."""
    tensors = iter(tensors)
    special = {"t": lambda: next(tensors), "...": lambda: Ellipsis, "new": lambda: None}
    return tuple(special[i]() if isinstance(i, str) else slice(*i) if isinstance(i, list) else i for i in at)


def index(x, *tensors, at):
    return x[brackets(at, tensors)]


def index_put(x, values, *tensors, at, accumulate=False):
    if accumulate:
        return x.index_put(brackets(at, tensors), values, True)
    y = x.clone()
    y[brackets(at, tensors)] = values
    return y


def indexing():
    some, few = exactly([[3, 0], [3, 1]]), exactly([[1], [0]])
    mask, rows = exactly([[True, False, True, True], [False, False, True, False]]), exactly([True, False, True])
    all_of = [None, None, None]
    for at, shape, *tensors in [
            ([1, -1], (2, 3, 4)), (["...", 0], (2, 3)), ([[1, None, None], "new", [0, 3, 2]], (3, 4)),
            (["t"], (2, 4), mask), (["t", 1], (2, 4, 3), mask), ([all_of, "t"], (3, 2, 4), mask),
            (["t"], (3, 4), rows), (["t"], (4, 2), some), ([all_of, "t"], (2, 4), some),
            (["t", "t"], (2, 4, 3), few, some), ([all_of, "t", "t"], (3, 2, 4), few, some),
            (["t", [1, 3, None], "t"], (2, 4, 4), few, some), ([0, all_of, "t"], (2, 3, 4), some),
            (["t", 0, "t"], (2, 3, 4), few, some), (["t", "...", "t"], (2, 3, 4, 3), few, rows),
            (["t", "new", "t"], (2, 4), few, some)]:
        case("index", index, shape, *tensors, at=at)
    for at, shape, values, *tensors in [
            ([1], (3, 4), (4, )), ([all_of, [1, 3, None]], (3, 4), ()), ([[None, None, 2], 0], (5, 2), (3, )),
            (["t"], (2, 4), (), mask), (["t"], (2, 4), (4, ), mask), (["t"], (3, 4), (4, ), rows),
            (["t"], (5, 2), (2, 2, 2), exactly([[3, 0], [2, 1]])), ([0, all_of, "t"], (2, 3, 4), (3, 2), exactly([1, 3])),
            (["t", [1, 3, None], "t"], (2, 4, 4), (2, 1, 2), few, exactly([[3], [1]])),
            (["t", "new", "t"], (2, 4), (1, ), few, exactly([[2], [1]]))]:
        case("index_put", index_put, shape, values, *tensors, at=at)
    case("index_put", index_put, (4, 2), (2, 2, 2), some, at=["t"], accumulate=True)
    case("index_put", index_put, (2, 4), (2, 2), few, some, at=["t", "t"], accumulate=True)
    case("masked_select", torch.masked_select, (2, 4), mask)
    case("masked_select", torch.masked_select, (2, 1), mask)
    case("nonzero", torch.nonzero, mask)
    case("nonzero", torch.nonzero, exactly([[[0, 2], [-1, 0]], [[0, 0], [3, 4]]]))


def all_cases():
    for family in [elementwise, products, reductions, normalisations, convolutions, arrangements,
                   attentions, losses, indexing]:
        family()
    return cases
