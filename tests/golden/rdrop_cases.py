"""R-Drop's losses, written pairwise from their definition (arXiv 2106.14448, section 2 and appendix A.4)."""
import math

import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, kl_divergence

from common import constant, exactly, integers, normal
from op_cases import case


def rdrop_cross_entropy(logits, target, mask=None, *, alpha, label_smoothing=0.0, ignore_index=-100,
                        divisor=None):
    """L = mean_i CE(P_i, y) + (alpha/2) · mean_{i≠j} KL(P_i ‖ P_j), summed over valid units / divisor.

    logits [m, ..., classes] with the passes in front, target [...], mask [...] True at valid units.
    Classes at -inf in all passes are as if they did not exist. Returns loss, ce, kl.
    """
    m = logits.size(0)
    valid = target != ignore_index
    valid = valid if mask is None else valid & mask
    divisor = int(valid.sum()) if divisor is None else divisor
    ce = kl = torch.zeros(())
    for unit in valid.nonzero().tolist():
        z = logits[(slice(None), *unit)]
        exists = ~torch.isinf(z).all(0)
        label = int(exists[:target[tuple(unit)]].sum())
        log_p = torch.log_softmax(z[:, exists], -1)
        for i in range(m):
            nll, smooth = -log_p[i, label], -log_p[i].mean()
            ce = ce + ((1 - label_smoothing) * nll + label_smoothing * smooth) / m
            for j in range(m):
                if i != j:
                    kl = kl + (log_p[i].exp() * (log_p[i] - log_p[j])).sum() / (m * (m - 1))
    ce, kl = ce / divisor, kl / divisor
    return ce + alpha / 2 * kl, ce.detach(), kl.detach()


def rdrop_mse(prediction, target, mask=None, *, alpha, divisor=None):
    """L = mean_i (y_i − y)² + (alpha/2) · mean_{i≠j} (y_i − y_j)², summed over valid elements / divisor."""
    m = prediction.size(0)
    valid = torch.ones_like(target, dtype=torch.bool) if mask is None else mask
    divisor = int(valid.sum()) if divisor is None else divisor
    y, target = prediction[:, valid], target[valid]
    mse = sum(((y[i] - target)**2).sum() for i in range(m)) / m / divisor
    pairs = [(i, j) for i in range(m) for j in range(m) if i != j]
    between = sum(((y[i] - y[j])**2).sum() for i, j in pairs) / max(1, len(pairs)) / divisor
    between = torch.as_tensor(between)
    return mse + alpha / 2 * between, mse.detach(), between.detach()


def weighted_rdrop_cross_entropy(logits, target, weights, *, alpha, label_smoothing=0.0, ignore_index=-100):
    """CE is torch's with these weights of classes, averaged over the passes; KL as above."""
    ce = sum(F.cross_entropy(z, target, weights, label_smoothing=label_smoothing, ignore_index=ignore_index)
             for z in logits) / logits.size(0)
    kl = rdrop_cross_entropy(logits, target, alpha=alpha, ignore_index=ignore_index)[2]
    loss = rdrop_cross_entropy(logits, target, alpha=alpha, ignore_index=ignore_index)[0]
    plain = rdrop_cross_entropy(logits, target, alpha=0.0, ignore_index=ignore_index)[0]
    return ce + (loss - plain), ce.detach(), kl


def rdrop_binary_cross_entropy(logits, target, mask=None, *, alpha, divisor=None):
    """Labels of their own: BCE and the KL of two Bernoulli variables, summed over classes, / divisor units."""
    m = logits.size(0)
    mask = torch.ones(target.size(0), dtype=torch.bool) if mask is None else mask
    divisor = int(mask.sum()) if divisor is None else divisor
    z, y = logits[:, mask], target[mask]
    bce = sum(F.binary_cross_entropy_with_logits(z[i], y, reduction="sum") for i in range(m)) / m / divisor
    pairs = [(i, j) for i in range(m) for j in range(m) if i != j]
    kl = sum(kl_divergence(Bernoulli(logits=z[i]), Bernoulli(logits=z[j])).sum() for i, j in pairs)
    kl = torch.as_tensor(kl / max(1, len(pairs)) / divisor)
    return bce + alpha / 2 * kl, bce.detach(), kl.detach()


def add_cases():
    op = "rdrop_cross_entropy"
    mask4 = exactly([True, False, True, True])
    for m in [1, 2, 3, 5]:
        case(op, rdrop_cross_entropy, (m, 4, 5), integers(4, high=5), alpha=1.5)
        case(op, rdrop_cross_entropy, (m, 4, 5), integers(4, high=5), mask4, alpha=0.6)
        case(op, rdrop_cross_entropy, (m, 4, 5), integers(4, high=5), mask4, alpha=5.0, label_smoothing=0.1)
    mask23 = exactly([[True, True, False], [True, False, False]])
    case(op, rdrop_cross_entropy, (8, 2, 3, 4), integers(2, 3, high=4), mask23, alpha=0.5, label_smoothing=0.2)
    case(op, rdrop_cross_entropy, (2, 4, 5), exactly([3, -100, 0, -100]), alpha=2.0, ignore_index=-100)
    case(op, rdrop_cross_entropy, (3, 4, 5), exactly([3, 1, 0, 1]), mask4, alpha=2.0, ignore_index=1)
    case(op, rdrop_cross_entropy, (3, 4, 5), integers(4, high=5), mask4, alpha=1.0, divisor=16)
    case(op, rdrop_cross_entropy, (2, 4, 5), integers(4, high=5), alpha=0.0)
    # The passes nearly agree: KL is small and easily lost to cancellation.
    near = lambda source: source.normal((1, 4, 5)) + source.normal((3, 4, 5), 1e-3)
    case(op, rdrop_cross_entropy, near, integers(4, high=5), alpha=1.0)
    gone = lambda source: normal(3, 2, 5)(source).masked_fill(
        torch.tensor([[False, True, False, False, True], [False] * 5]), -math.inf)
    case(op, rdrop_cross_entropy, gone, exactly([2, 1]), alpha=1.0)
    case(op, rdrop_cross_entropy, gone, exactly([3, 0]), alpha=1.0, label_smoothing=0.1)

    for m in [1, 2, 3, 5]:
        case("rdrop_mse", rdrop_mse, (m, 4), (4, ), alpha=1.5)
        case("rdrop_mse", rdrop_mse, (m, 4), (4, ), mask4, alpha=0.6)
    case("rdrop_mse", rdrop_mse, (3, 4, 2), (4, 2), alpha=1.0)
    case("rdrop_mse", rdrop_mse, (3, 4), (4, ), mask4, alpha=1.0, divisor=16)

    op = "weighted_rdrop_cross_entropy"
    weights = constant(exactly([0.5, 2.0, 0.0, 1.5, 3.0]))
    for m in [1, 2, 3]:
        case(op, weighted_rdrop_cross_entropy, (m, 4, 5), exactly([0, 3, 1, 4]), weights, alpha=1.5)
        case(op, weighted_rdrop_cross_entropy, (m, 4, 5), exactly([0, 2, 1, 4]), weights, alpha=0.6,
             label_smoothing=0.1)
    case(op, weighted_rdrop_cross_entropy, (2, 4, 5), exactly([3, 1, 0, 1]), weights, alpha=2.0, ignore_index=1)
    case(op, weighted_rdrop_cross_entropy, near, exactly([0, 3, 1, 4]), weights, alpha=1.0)

    op = "rdrop_binary_cross_entropy"
    hot = constant(exactly([[1.0, 0.0, 0.0, 1.0, 1.0], [0.0] * 5, [1.0] * 5, [0.0, 0.25, 1.0, 0.0, 0.0]]))
    for m in [1, 2, 3, 5]:
        case(op, rdrop_binary_cross_entropy, (m, 4, 5), hot, alpha=1.5)
        case(op, rdrop_binary_cross_entropy, (m, 4, 5), hot, mask4, alpha=0.6, divisor=7)
    case(op, rdrop_binary_cross_entropy, near, hot, alpha=1.0)
    far = lambda source: source.normal((3, 4, 5), 12.0)
    case(op, rdrop_binary_cross_entropy, far, hot, alpha=1.0)
