"""BERT's encoder, the decoder-only language model and the adaptive softmax, without noise, with padding."""
import torch
import torch.nn.functional as F
from torch import nn

from common import Source, encode
from model_cases import future, initialise, named


def layers(count, dim, heads, hidden, norm_first, eps):
    return nn.ModuleList(nn.TransformerEncoderLayer(dim, heads, hidden, 0.0, "gelu", eps, True, norm_first)
                         for _ in range(count))


class TextEncoder(nn.Module):
    """Devlin et al., arXiv 1810.04805, section 3; the pooler is the released code's. pad_id is 0."""

    def __init__(self, *, vocab, segments, outputs, dim, heads, mlp_dim, layers_, max_positions, norm_first,
                 norm_eps):
        super().__init__()
        self.words = nn.Embedding(vocab, dim, padding_idx=0)
        self.positions = nn.Parameter(torch.empty(max_positions, dim))
        self.segments = nn.Embedding(segments, dim)
        self.norm = nn.LayerNorm(dim, norm_eps)
        self.layers = layers(layers_, dim, heads, mlp_dim, norm_first, norm_eps)
        if norm_first:
            self.last_norm = nn.LayerNorm(dim, norm_eps)
        self.pooler, self.head = nn.Linear(dim, dim), nn.Linear(dim, outputs)

    def hidden(self, ids, segments):
        x = self.norm(self.words(ids) + self.positions[:ids.size(1)] + self.segments(segments))
        for block in self.layers:
            x = block(x, src_key_padding_mask=ids == 0)
        return self.last_norm(x) if hasattr(self, "last_norm") else x

    def output(self, hidden):
        return self.head(torch.tanh(self.pooler(hidden[:, 0])))


class LanguageModel(nn.Module):
    """Pre-norm, causal; the output layer is the embedding."""

    def __init__(self, *, vocab, dim, heads, mlp_dim, layers_, max_positions):
        super().__init__()
        self.embedding = nn.Module()
        self.embedding.tokens = nn.Embedding(vocab, dim, padding_idx=0)
        self.embedding.positions = nn.Parameter(torch.empty(max_positions, dim))
        self.layers = layers(layers_, dim, heads, mlp_dim, True, 1e-5)
        self.norm = nn.LayerNorm(dim)

    def hidden(self, ids, segments):
        words = self.embedding.tokens(ids)
        x = words * words.size(-1)**0.5 + self.embedding.positions[:ids.size(1)]
        for block in self.layers:
            x = block(x, future(ids.size(1)))
        return self.norm(x)

    def output(self, hidden):
        return F.linear(hidden, self.embedding.tokens.weight)


def model(kind, config, ids, segments, target, loss_of):
    source = Source(f"{kind.__name__}/{config}")
    module = kind(**config)
    initialise(module, source)
    ids, segments, target = torch.tensor(ids), torch.tensor(segments), torch.tensor(target)
    parameters = dict(module.named_parameters())
    hidden = module.hidden(ids, segments)
    output = module.output(hidden)
    loss = loss_of(output, target)
    grads = torch.autograd.grad(loss, list(parameters.values()))
    return {"model": kind.__name__, "config": config, "parameters": named(parameters), "ids": encode(ids),
            "segments": encode(segments), "target": encode(target), "hidden": encode(hidden),
            "output": encode(output), "loss": encode(loss), "grads": named(dict(zip(parameters, grads)))}


def adaptive_softmax(units, dim, vocab, cutoffs, factor):
    name = f"AdaptiveLogSoftmaxWithLoss/{units}/{dim}/{vocab}/{cutoffs}/{factor}"
    source = Source(name)
    module = nn.AdaptiveLogSoftmaxWithLoss(dim, vocab, cutoffs, div_value=factor)
    initialise(module, source)
    hidden = source.normal((units, dim)).requires_grad_()
    target = torch.tensor([source.random.randrange(vocab) for _ in range(units)])
    loss = module(hidden, target).loss
    parameters = dict(module.named_parameters())
    grads = torch.autograd.grad(loss, [hidden, *parameters.values()])
    return {"model": "AdaptiveLogSoftmaxWithLoss",
            "config": {"dim": dim, "vocab": vocab, "cutoffs": cutoffs, "factor": factor},
            "parameters": named(parameters), "hidden": encode(hidden), "target": encode(target),
            "output": encode(module.log_prob(hidden)), "loss": encode(loss), "hidden_grad": encode(grads[0]),
            "grads": named(dict(zip(parameters, grads[1:])))}


def all_cases():
    ids = [[2, 7, 5, 3, 9], [2, 6, 3, 0, 0], [2, 8, 10, 3, 0]]
    segments = [[0, 0, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]
    sizes = {"vocab": 11, "segments": 2, "dim": 6, "heads": 2, "mlp_dim": 8, "max_positions": 6}
    language = {"vocab": 11, "dim": 6, "heads": 3, "mlp_dim": 8, "layers_": 2, "max_positions": 6}
    return [
        model(TextEncoder, {**sizes, "outputs": 3, "layers_": 2, "norm_first": False, "norm_eps": 1e-12},
              ids, segments, [2, 0, 1], F.cross_entropy),
        model(TextEncoder, {**sizes, "outputs": 1, "layers_": 1, "norm_first": True, "norm_eps": 1e-5},
              ids, segments, [0.5, -1.25, 2.0], lambda y, t: F.mse_loss(y[:, 0], t)),
        model(LanguageModel, language, ids, segments, [[7, 5, 3, 9, 3], [6, 3, 0, 0, 0], [8, 10, 3, 0, 0]],
              lambda y, t: F.cross_entropy(y.flatten(0, 1), t.flatten(), ignore_index=0)),
        adaptive_softmax(7, 8, 20, [6, 12], 2),
        adaptive_softmax(5, 9, 15, [4], 3),
    ]
