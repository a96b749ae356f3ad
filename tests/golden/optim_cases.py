"""Optimizers fed with given gradients, gradient clipping, learning-rate schedules."""
import math

import torch

from common import Source, encode

SHAPES = [(2, 3), (3, ), ()]


def optimizer(name, **options):
    """Five steps; the fourth gradient of the second parameter is 0, so that momentum and decay act alone."""
    source = Source(f"{name}/{options}")
    parameters = [source.normal(s).requires_grad_() for s in SHAPES]
    kind = getattr(torch.optim, name)(parameters, **options)
    record = {"kind": "optimizer", "name": name, "options": options,
              "parameters": [encode(p) for p in parameters], "gradients": [], "after": []}
    for step in range(5):
        for p, shape in zip(parameters, SHAPES):
            p.grad = source.normal(shape)
        if step == 3:
            parameters[1].grad.zero_()
        kind.step()
        record["gradients"].append([encode(p.grad) for p in parameters])
        record["after"].append([encode(p) for p in parameters])
    return record


def clipping(max_norm, scale):
    source = Source(f"clip/{max_norm}/{scale}")
    parameters = [source.normal(s).requires_grad_() for s in SHAPES]
    for p in parameters:
        p.grad = source.normal(p.shape, scale)
    before = [encode(p.grad) for p in parameters]
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return {"kind": "clip_grad_norm_", "max_norm": max_norm, "gradients": before, "norm": encode(norm),
            "after": [encode(p.grad) for p in parameters]}


# The rate of optimizer step t, t = 1, 2, ...
def cosine(t, *, lr, warmup, total, min_lr):
    if t <= warmup:
        return lr * t / warmup
    progress = min(1.0, (t - warmup) / (total - warmup))
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2


def inverse_sqrt(t, *, lr, warmup):
    return lr * min(t / warmup, math.sqrt(warmup / t))


def step(t, *, lr, step_size, gamma):
    return lr * gamma**((t - 1) // step_size)


def schedule(name, formula, last, **options):
    return {"kind": "schedule", "name": name, "options": options, "steps": list(range(1, last + 1)),
            "values": [formula(t, **options) for t in range(1, last + 1)]}


def all_cases():
    return [
        optimizer("SGD", lr=0.1),
        optimizer("SGD", lr=0.1, weight_decay=0.05),
        optimizer("SGD", lr=0.1, momentum=0.9),
        optimizer("SGD", lr=0.1, momentum=0.9, weight_decay=0.05),
        optimizer("SGD", lr=0.1, momentum=0.8, nesterov=True),
        optimizer("SGD", lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.05),
        optimizer("Adam", lr=0.1, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.0),
        optimizer("Adam", lr=0.05, betas=[0.9, 0.98], eps=1e-9, weight_decay=0.1),
        # A large eps shows where it is added: to the root of the corrected second moment.
        optimizer("Adam", lr=0.1, betas=[0.8, 0.95], eps=0.1, weight_decay=0.0),
        optimizer("AdamW", lr=0.1, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.01),
        optimizer("AdamW", lr=0.05, betas=[0.9, 0.98], eps=0.1, weight_decay=0.3),
        clipping(1.0, 2.0),
        clipping(0.5, 0.3),
        clipping(100.0, 1.0),
        schedule("cosine", cosine, 24, lr=0.001, warmup=5, total=20, min_lr=0.0),
        schedule("cosine", cosine, 12, lr=0.01, warmup=3, total=12, min_lr=0.001),
        schedule("inverse_sqrt", inverse_sqrt, 20, lr=0.0005, warmup=4),
        schedule("step", step, 12, lr=0.1, step_size=3, gamma=0.5),
    ]
