"""Models on PyTorch's side: training steps, predictions, decoding.

Eager ones are written as people write them. At its best (kind "best"): compiled; q, k and v by one product;
convolutions in channels_last; what comes before the first noise computed once for all passes; of a classifier of the
first token the last layer for that one alone; the lean loss. Kind "packed" leaves padding out of everything but the
attention's scores."""
import math

import torch
import torch.nn.functional as F
from torch import nn

from torch_common import DEVICE, compiled, fastest
from torch_loss import lean_rdrop, rdrop_loss


class Padding:
    """mask [B, T], true = a word, or None: there is no padding; packed: only the rows of words are computed."""

    def __init__(self, mask, packed=False):
        self.mask = None if mask is None else mask[:, None, None]
        self.shape = None if mask is None else mask.shape
        self.rows = mask.flatten().nonzero().flatten() if packed else None

    def pad(self, y):
        """[rows, d] to [B, T, d]."""
        if self.rows is None:
            return y
        return y.new_zeros(self.shape.numel(), y.shape[-1]).index_copy(0, self.rows, y).view(*self.shape, -1)

    def unpad(self, y):
        """[B, T, d] to [rows, d]."""
        return y if self.rows is None else y.flatten(0, 1).index_select(0, self.rows)


NONE = Padding(None)


class Attention(nn.Module):
    def __init__(self, s, fused):
        super().__init__()
        self.heads, self.dropout, self.fused = s.heads, s.attention_dropout, fused
        if fused:
            self.qkv = nn.Linear(s.dim, 3 * s.dim)
        else:
            self.q, self.k, self.v = nn.Linear(s.dim, s.dim), nn.Linear(s.dim, s.dim), nn.Linear(s.dim, s.dim)
        self.out = nn.Linear(s.dim, s.dim)

    def split(self, y):
        return y.view(*y.shape[:2], self.heads, -1).transpose(1, 2)

    def queries(self, x, padding=NONE):
        dim = x.shape[-1]
        y = F.linear(x, self.qkv.weight[:dim], self.qkv.bias[:dim]) if self.fused else self.q(x)
        return self.split(padding.pad(y))

    def keys_values(self, memory, padding=NONE):
        dim = memory.shape[-1]
        if self.fused:
            both = padding.pad(F.linear(memory, self.qkv.weight[dim:], self.qkv.bias[dim:])).chunk(2, -1)
        else:
            both = padding.pad(self.k(memory)), padding.pad(self.v(memory))
        return [self.split(y) for y in both]

    def project(self, x, memory, padding=NONE, memory_padding=NONE):
        """q, k and v, each [B, heads, T, d]."""
        if self.fused and memory is x:
            return [self.split(y) for y in padding.pad(self.qkv(x)).chunk(3, -1)]
        return [self.queries(x, padding), *self.keys_values(memory, memory_padding)]

    def attend(self, q, k, v, causal=False, mask=None):
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=p, is_causal=causal)
        return y.transpose(1, 2).flatten(2)

    def forward(self, x, memory, causal=False, padding=NONE, memory_padding=NONE):
        """Causal attention needs no mask: padding is behind."""
        q, k, v = self.project(x, memory, padding, memory_padding)
        return self.out(padding.unpad(self.attend(q, k, v, causal, None if causal else memory_padding.mask)))


class PreNormLayer(nn.Module):
    def __init__(self, s, activation_dropout, causal):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(s.dim, eps=1e-6), nn.LayerNorm(s.dim, eps=1e-6)
        self.attention = Attention(s, s.best)
        self.fc1, self.fc2 = nn.Linear(s.dim, s.mlp), nn.Linear(s.mlp, s.dim)
        self.p, self.activation_dropout, self.causal = s.dropout, activation_dropout, causal

    def forward(self, x, first_alone=False):
        """first_alone: for the first position only."""
        y = self.norm1(x)
        queries, x = (y[:, :1], x[:, :1]) if first_alone else (y, x)
        x = x + F.dropout(self.attention(queries, y, self.causal), self.p, self.training)
        y = F.gelu(self.fc1(self.norm2(x)))
        if self.activation_dropout:
            y = F.dropout(y, self.activation_dropout, self.training)
        return x + F.dropout(self.fc2(y), self.p, self.training)


class PostNormLayer(nn.Module):
    """Encoder or decoder layer."""

    def __init__(self, s, cross=False, activation=F.relu):
        super().__init__()
        self.attention = Attention(s, s.best)
        self.cross = Attention(s, s.best) if cross else None
        self.fc1, self.fc2 = nn.Linear(s.dim, s.mlp), nn.Linear(s.mlp, s.dim)
        self.norms = nn.ModuleList(nn.LayerNorm(s.dim) for _ in range(3 if cross else 2))
        self.p, self.activation = s.dropout, activation

    def add(self, norm, x, branch):
        return self.norms[norm](x + F.dropout(branch, self.p, self.training))

    def forward(self, x, memory=None, padding=NONE, memory_padding=NONE):
        x = self.add(0, x, self.attention(x, x, memory is not None, padding, padding))
        if memory is not None:
            x = self.add(1, x, self.cross(x, memory, False, padding, memory_padding))
        return self.add(-1, x, self.fc2(self.activation(self.fc1(x))))

    def at(self, x, memory, memory_padding):
        """Self-attention and the rest for some of its positions, x [B, t, d]."""
        q, k, v = self.attention.project(x, memory, NONE, memory_padding)
        x = self.add(0, x, self.attention.out(self.attention.attend(q, k, v, mask=memory_padding.mask)))
        return self.add(-1, x, self.fc2(self.activation(self.fc1(x))))

    def step(self, x, keys, values, memory, at, mask):
        """x [B, 1, d] at position `at` of the cache [B, heads, T, d]; memory: the source's keys and values."""
        q, k, v = self.attention.project(x, x)
        if mask is None:  # a slice of the cache, which grows
            keys[:, :, at : at + 1], values[:, :, at : at + 1] = k, v
            y = self.attention.attend(q, keys[:, :, : at + 1], values[:, :, : at + 1])
        else:  # all of it, whose shape a compiler can rely on
            keys.index_copy_(2, at, k), values.index_copy_(2, at, v)
            y = self.attention.attend(q, keys, values, mask=mask)
        x = self.add(0, x, self.attention.out(y))
        x = self.add(1, x, self.cross.out(self.cross.attend(self.cross.queries(x), *memory)))
        return self.add(-1, x, self.fc2(self.activation(self.fc1(x))))


class Vit(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.patches = nn.Conv2d(3, s.dim, s.patch, s.patch)
        self.token = nn.Parameter(torch.zeros(1, 1, s.dim))
        self.positions = nn.Parameter(torch.randn(1, (s.image // s.patch) ** 2 + 1, s.dim) * 0.02)
        self.layers = nn.ModuleList(PreNormLayer(s, s.dropout, False) for _ in range(s.layers))
        self.norm, self.head, self.p = nn.LayerNorm(s.dim, eps=1e-6), nn.Linear(s.dim, s.classes), s.dropout
        self.first_alone = s.best

    def forward(self, x, passes=1):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        x = F.dropout(x.repeat(passes, 1, 1), self.p, self.training)
        for layer in self.layers[:-1]:
            x = layer(x)
        x = self.layers[-1](x, self.first_alone)
        return self.head(self.norm(x[:, 0]))


class Cnn(nn.Module):
    """models/cnn."""

    def __init__(self, s):
        super().__init__()
        self.conv1 = nn.Conv2d(s.channels, s.width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(s.width, 2 * s.width, 3, padding=1, bias=False)
        self.norm1, self.norm2, self.p = nn.BatchNorm2d(s.width), nn.BatchNorm2d(2 * s.width), s.dropout
        self.head = nn.Linear(2 * s.width * (s.image // 4) ** 2, s.classes)

    def forward(self, x, passes=1):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        return self.head(F.dropout(x.flatten(1).repeat(passes, 1), self.p, self.training))


class LanguageModel(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.embedding = nn.Embedding(s.vocab, s.dim)
        nn.init.normal_(self.embedding.weight, 0, s.dim**-0.5)
        self.positions = nn.Parameter(torch.randn(s.tokens, s.dim) * 0.02)
        self.layers = nn.ModuleList(PreNormLayer(s, 0, True) for _ in range(s.layers))
        self.norm, self.p = nn.LayerNorm(s.dim, eps=1e-6), s.dropout

    def forward(self, ids, passes=1):
        x = F.dropout((self.embedding(ids) + self.positions).repeat(passes, 1, 1), self.p, self.training)
        for layer in self.layers:
            x = layer(x)
        return F.linear(self.norm(x), self.embedding.weight)


class Encoder(nn.Module):
    """models/transformer/text_encoder: BERT and a classifier of its first token."""

    def __init__(self, s, mask):
        """mask [B, T]: where words are, the same in every batch; packed, only those are computed."""
        super().__init__()
        self.words, self.kind = nn.Embedding(s.vocab, s.dim), nn.Parameter(torch.randn(s.dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(s.tokens, s.dim) * 0.02)
        self.norm, self.p, self.packed = nn.LayerNorm(s.dim), s.dropout, s.kind == "packed"
        self.layers = nn.ModuleList(PostNormLayer(s, activation=F.gelu) for _ in range(s.layers))
        self.pooler, self.head, self.first_alone = nn.Linear(s.dim, s.dim), nn.Linear(s.dim, s.classes), s.best
        lengths = mask.sum(1).repeat(s.passes)  # of all passes
        self.padding = Padding(mask.repeat(s.passes, 1), self.packed)
        self.register_buffer("first", lengths.cumsum(0) - lengths)

    def forward(self, ids, mask, passes=1):
        x = self.norm(self.words(ids) + self.positions + self.kind).repeat(passes, 1, 1)
        padding = self.padding if passes > 1 else Padding(mask)  # eager: the batch is repeated before
        x = F.dropout(padding.unpad(x), self.p, self.training)
        for layer in self.layers[:-1] if self.first_alone else self.layers:
            x = layer(x, padding=padding)
        first = x.index_select(0, self.first)[:, None] if self.packed else x[:, :1]
        if self.first_alone:
            first = self.layers[-1].at(first, x, padding)
        x = torch.tanh(self.pooler(first[:, 0]))
        return self.head(F.dropout(x, self.p, self.training))


class Transformer(nn.Module):
    """Without a mask of words there is no padding. With one, of both sides, the logits are those of words alone."""

    def __init__(self, s, mask=None):
        super().__init__()
        self.padding = NONE if mask is None else Padding(mask.repeat(s.passes, 1), s.kind == "packed")
        self.words = None if mask is None else Padding(mask.repeat(s.passes, 1), self.padding.rows is None)
        self.embedding = nn.Embedding(s.vocab, s.dim, padding_idx=0)
        nn.init.normal_(self.embedding.weight, 0, s.dim**-0.5)
        length = max(s.tokens, getattr(s, "steps", 0))
        t, d = torch.arange(float(length))[:, None], torch.arange(0, s.dim, 2)
        angle = t * torch.exp(-math.log(10000.0) * d / s.dim)
        self.register_buffer("positions", torch.stack([angle.sin(), angle.cos()], -1).flatten(1))
        self.encoder = nn.ModuleList(PostNormLayer(s) for _ in range(s.layers))
        self.decoder = nn.ModuleList(PostNormLayer(s, cross=True) for _ in range(s.layers))
        self.dim, self.p = s.dim, s.dropout

    def embed(self, ids, positions, passes=1):
        x = self.embedding(ids) * math.sqrt(self.dim) + positions
        return F.dropout(self.padding.unpad(x.repeat(passes, 1, 1)), self.p, self.training)

    def encode(self, source, passes=1):
        x = self.embed(source, self.positions[: source.shape[1]], passes)
        for layer in self.encoder:
            x = layer(x, padding=self.padding)
        return x

    def forward(self, source, target, passes=1):
        memory = self.encode(source, passes)
        x = self.embed(target, self.positions[: target.shape[1]], passes)
        for layer in self.decoder:
            x = layer(x, memory, self.padding, self.padding)
        return F.linear(x if self.words is None else self.words.unpad(x), self.embedding.weight)

    def step(self, ids, caches, memories, at, mask):
        """Ids [B] at position `at` to the likeliest next ones."""
        position = self.positions[at : at + 1] if mask is None else self.positions.index_select(0, at)
        x = self.embed(ids[:, None], position)
        for layer, (keys, values), memory in zip(self.decoder, caches, memories):
            x = layer.step(x, keys, values, memory, at, mask)
        return F.linear(x[:, 0], self.embedding.weight).argmax(-1)


def training(s, model, inputs, target):
    """A step with AdamW; inputs of one pass."""
    model = model.to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    target, m = target.flatten(), s.passes
    if s.best:
        return lean_training(s, model, optimizer, inputs, target)
    repeated = [torch.cat([x] * m) for x in inputs]

    def loss():
        with s.autocast():
            return rdrop_loss(model(*repeated).flatten(0, -2), target, 0.1, m)

    run_loss = s.compiled(loss)

    def step():
        optimizer.zero_grad()
        run_loss().backward()
        optimizer.step()

    return step


def lean_training(s, model, optimizer, inputs, target):
    """The same step with a compiled loss, whose gradient needs no autograd; the model is compiled, where that pays."""
    if any(x.dim() == 4 for x in inputs):
        model = model.to(memory_format=torch.channels_last)
        inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    loss = compiled(lambda logits: lean_rdrop(logits.flatten(0, -2), target, 0.1, s.passes))

    def way(forward):
        def step():
            optimizer.zero_grad()
            with s.autocast():
                logits = forward(*inputs, passes=s.passes)
            value, gradient = loss(logits.detach())
            logits.backward(gradient.view_as(logits))
            optimizer.step()
        return step

    # A compiled model draws its own random numbers, or has PyTorch draw them.
    return fastest({"eager": way(model), "compiled": way(compiled(model)),
                    "compiled, PyTorch's draws": way(compiled(model, options={"fallback_random": True}))}, s.case)


def vit(s):
    images = torch.randn(s.batch, 3, s.image, s.image, device=DEVICE)
    return training(s, Vit(s), [images], s.ids(s.classes, s.batch))


def cnn(s):
    images = torch.randn(s.batch, s.channels, s.image, s.image, device=DEVICE)
    return training(s, Cnn(s), [images], s.ids(s.classes, s.batch))


def growing(s):
    """Text i of B has T (i + 1) / B words, the rest is padding: where words are, bool [B, T]."""
    lengths = torch.arange(1, s.batch + 1, device=DEVICE) * s.tokens // s.batch
    return torch.arange(s.tokens, device=DEVICE) < lengths[:, None]


def transformer(s):
    source, words, target = (s.ids(s.vocab, s.batch, s.tokens, low=1) for _ in range(3))
    return training(s, Transformer(s), [source, words], target)


def padded_transformer(s):
    mask = growing(s)
    source, words, target = (s.ids(s.vocab, s.batch, s.tokens, low=1) for _ in range(3))
    return training(s, Transformer(s, mask), [source * mask, words * mask], target[mask])


def lm(s):
    ids, target = (s.ids(s.vocab, s.batch, s.tokens, low=1) for _ in range(2))
    return training(s, LanguageModel(s), [ids], target)


def encoder(s):
    mask = growing(s)
    ids = s.ids(s.vocab, s.batch, s.tokens, low=1) * mask
    return training(s, Encoder(s, mask), [ids, mask], s.ids(s.classes, s.batch))


def vit_inference(s):
    model, images = Vit(s).to(DEVICE).eval(), torch.randn(s.batch, 3, s.image, s.image, device=DEVICE)

    def predict(model, images):
        def run():
            with torch.inference_mode(), s.autocast():
                return model(images)
        return run

    if not s.best:
        return predict(s.compiled(model), images)
    model, images = model.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)

    def frozen():
        with torch.no_grad(), s.autocast():
            return graph(images)

    graph = compiled(model, options={"freezing": True})  # weights are packed once
    return fastest({"eager": predict(model, images), "compiled": frozen}, s.case)


def decode(s):
    """Greedy decoding of `steps` tokens with a cache of keys and values; sentences never end."""
    model = Transformer(s).to(DEVICE).eval()
    source, head = s.ids(s.vocab, s.batch, s.tokens, low=1), s.dim // s.heads

    def decoder(step, growing):
        def run():
            with torch.no_grad():
                encoded = model.encode(source)
                memories = [layer.cross.keys_values(encoded) for layer in model.decoder]
                caches = [[torch.zeros(s.batch, s.heads, s.steps, head, device=DEVICE) for _ in range(2)]
                          for _ in model.decoder]
                ids, said = torch.full((s.batch,), 2, device=DEVICE), []
                for t in range(s.steps):
                    at = t if growing else torch.tensor([t], device=DEVICE)
                    mask = None if growing else (torch.arange(s.steps, device=DEVICE) <= at)[None]
                    ids = step(ids, caches, memories, at, mask)
                    said.append(ids)
                return torch.stack(said, 1)
        return run

    eager = decoder(model.step, True)
    if not s.best:
        return eager
    return fastest({"eager": eager, "compiled": decoder(compiled(model.step), False)}, s.case)
