"""Layers and whole models without noise: parameters, inputs, outputs, every gradient."""
import torch
import torch.nn.functional as F
from torch import nn

from common import Source, encode, number

# PyTorch's names on the left, ours on the right.
RENAMED = [("self_attn.", "attn."), ("linear1.", "mlp.fc1."), ("linear2.", "mlp.fc2.")]


def named(tensors):
    """Encodes named tensors under our names; PyTorch's joint in_proj becomes q_proj, k_proj, v_proj."""
    result = {}
    for name, tensor in tensors.items():
        for theirs, ours in RENAMED:
            name = name.replace(theirs, ours)
        if "in_proj_" in name:
            for letter, part in zip("qkv", tensor.chunk(3)):
                result[name.replace("in_proj_", f"{letter}_proj.")] = encode(part)
        else:
            result[name] = encode(tensor)
    return result


def initialise(module, source):
    """Every parameter random (gains around 1), so that none is without influence."""
    for name, p in module.named_parameters():
        values = source.normal(p.shape, 0.3)
        with torch.no_grad():
            p.copy_(1 + values if "norm" in name and name.endswith("weight") else values)


def layer(name, module, config, call, inputs, constants):
    source = Source(f"{name}/{config}/{sorted(constants)}")
    initialise(module, source)
    tensors = {k: source.normal(shape).requires_grad_() for k, shape in inputs.items()}
    output = call(module, **tensors, **constants)
    cotangent = source.normal(output.shape)
    parameters = dict(module.named_parameters())
    wanted = {**tensors, **parameters}
    grads = dict(zip(wanted, torch.autograd.grad(output, list(wanted.values()), cotangent)))
    return {"layer": name, "config": config, "parameters": named(parameters),
            "inputs": named({**tensors, **constants}), "output": encode(output),
            "cotangent": encode(cotangent), "input_grads": named({k: grads[k] for k in tensors}),
            "parameter_grads": named({k: grads[k] for k in parameters})}


def future(length):
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def layers():
    cases = []
    ignored = {"key_padding_mask": torch.tensor([[False, False, False, True], [False, False, True, True]])}

    def attend(causal):
        def call(module, query, memory=None, key_padding_mask=None):
            memory = query if memory is None else memory
            mask = future(query.size(1)) if causal else None
            return module(query, memory, memory, key_padding_mask, need_weights=False, attn_mask=mask)[0]
        return call

    x = {"query": (2, 4, 6)}
    crossing = {"query": (2, 3, 6), "memory": (2, 4, 6)}
    for inputs, causal, constants in [(x, False, {}), (x, False, ignored), (x, True, ignored),
                                      (crossing, False, {}), (crossing, False, ignored)]:
        config = {"embed_dim": 6, "num_heads": 2, "bias": True, "causal": causal,
                  "kind": "cross" if "memory" in inputs else "self"}
        module = nn.MultiheadAttention(6, 2, batch_first=True)
        cases.append(layer("MultiheadAttention", module, config, attend(causal), inputs, constants))
    config = {"embed_dim": 6, "num_heads": 3, "bias": False, "causal": False, "kind": "self"}
    module = nn.MultiheadAttention(6, 3, bias=False, batch_first=True)
    cases.append(layer("MultiheadAttention", module, config, attend(False), x, {}))

    def encode_layer(causal):
        def call(module, x, key_padding_mask=None):
            return module(x, future(x.size(1)) if causal else None, key_padding_mask)
        return call

    for norm_first in [True, False]:
        for activation, causal, constants in [("gelu", False, {}), ("relu", True, ignored)]:
            config = {"d_model": 6, "num_heads": 2, "dim_feedforward": 8, "activation": activation,
                      "norm_first": norm_first, "norm_eps": 1e-5, "causal": causal}
            module = nn.TransformerEncoderLayer(6, 2, 8, 0.0, activation, 1e-5, True, norm_first)
            cases.append(layer("TransformerEncoderLayer", module, config, encode_layer(causal),
                               {"x": (2, 4, 6)}, constants))
    return cases


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.v_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x):
        batch, length, dim = x.shape
        q, k, v = (p(x).reshape(batch, length, self.heads, -1).transpose(1, 2)
                   for p in (self.q_proj, self.k_proj, self.v_proj))
        weights = torch.softmax(q @ k.transpose(-2, -1) / q.size(-1)**0.5, -1)
        return self.out_proj((weights @ v).transpose(1, 2).reshape(batch, length, dim))


class Mlp(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim, heads, hidden, eps):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps), Mlp(dim, hidden)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Dosovitskiy et al., arXiv 2010.11929, equations 1-4."""

    def __init__(self, *, image_size, patch_size, channels, dim, depth, num_heads, mlp_dim, num_classes,
                 norm_eps):
        super().__init__()
        self.patch_embed = nn.Conv2d(channels, dim, patch_size, patch_size)
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, 1 + (image_size // patch_size)**2, dim))
        self.blocks = nn.ModuleList(Block(dim, num_heads, mlp_dim, norm_eps) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, norm_eps)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images):
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.size(0), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Cnn(nn.Module):
    """(conv 3x3, batch norm, relu, max pool 2x2) twice, then a linear layer on the flattened map."""

    def __init__(self, *, image_size, channels, widths, num_classes):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, widths[0], 3, padding=1), nn.BatchNorm2d(widths[0])
        self.conv2, self.norm2 = nn.Conv2d(widths[0], widths[1], 3, padding=1), nn.BatchNorm2d(widths[1])
        self.head = nn.Linear(widths[1] * (image_size // 4)**2, num_classes)

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(images))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        return self.head(x.flatten(1))


def floating(buffers):
    return {k: b for k, b in buffers if b.is_floating_point()}


def model(name, kind, config, images, target, label_smoothing=0.0):
    source = Source(f"{name}/{config}")
    module = kind(**config)
    initialise(module, source)
    images, target = source.normal(images), torch.tensor(target)
    parameters = dict(module.named_parameters())
    record = {"model": name, "config": config, "label_smoothing": label_smoothing,
              "parameters": named(parameters), "buffers": named(floating(module.named_buffers())),
              "images": encode(images), "target": encode(target)}

    def loss_of(logits):
        return F.cross_entropy(logits, target, label_smoothing=label_smoothing)

    logits = module(images)
    loss = loss_of(logits)
    grads = torch.autograd.grad(loss, list(parameters.values()))
    record.update(logits=encode(logits), loss=encode(loss), grads=named(dict(zip(parameters, grads))),
                  buffers_after=named(floating(module.named_buffers())),
                  eval_logits=encode(module.eval()(images)))
    module.train()

    # A few steps of training on the same batch: the losses before each step.
    options = {"lr": 0.02, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.1}
    optimizer = torch.optim.AdamW(module.parameters(), **options)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = loss_of(module(images))
        losses.append(number(loss.item()))
        loss.backward()
        optimizer.step()
    record["training"] = {"optimizer": "AdamW", "options": options, "losses": losses}
    return record


def models():
    small = {"image_size": 8, "patch_size": 4, "channels": 1, "dim": 8, "depth": 2, "num_heads": 2,
             "mlp_dim": 12, "num_classes": 5, "norm_eps": 1e-6}
    colour = {**small, "image_size": 6, "patch_size": 2, "channels": 3, "dim": 6, "num_heads": 3, "depth": 1}
    cnn = {"image_size": 8, "channels": 2, "widths": [3, 4], "num_classes": 5}
    return [model("VisionTransformer", VisionTransformer, small, (3, 1, 8, 8), [4, 0, 2]),
            model("VisionTransformer", VisionTransformer, colour, (2, 3, 6, 6), [1, 3], 0.1),
            model("Cnn", Cnn, cnn, (3, 2, 8, 8), [4, 0, 2])]
