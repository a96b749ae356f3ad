"""The decoder layer and a whole encoder-decoder, without noise, with padding: values and every gradient."""
import torch
import torch.nn.functional as F
from torch import nn

from common import Source, encode
from model_cases import future, initialise

RENAMED = [("multihead_attn.", "cross_attn."), ("linear1.", "mlp.fc1."), ("linear2.", "mlp.fc2.")]


def named(tensors):
    """Encodes tensors under our names: in an encoder layer the attention is `attn`, and PyTorch's joint in_proj
    becomes q_proj, k_proj and v_proj."""
    result = {}
    for name, tensor in tensors.items():
        for theirs, ours in RENAMED + ([("self_attn.", "attn.")] if name.startswith("encoder.") else []):
            name = name.replace(theirs, ours)
        if "in_proj_" in name:
            for letter, part in zip("qkv", tensor.chunk(3)):
                result[name.replace("in_proj_", f"{letter}_proj.")] = encode(part)
        else:
            result[name] = encode(tensor)
    return result


def layer(norm_first, activation, memory_ignored):
    config = {"d_model": 6, "num_heads": 2, "dim_feedforward": 8, "activation": activation, "norm_first": norm_first,
              "norm_eps": 1e-5}
    source = Source(f"TransformerDecoderLayer/{config}/{memory_ignored}")
    module = nn.TransformerDecoderLayer(6, 2, 8, 0.0, activation, 1e-5, True, norm_first)
    initialise(module, source)
    inputs = {"x": source.normal((2, 4, 6)).requires_grad_(), "memory": source.normal((2, 3, 6)).requires_grad_()}
    ignored = torch.tensor(memory_ignored) if memory_ignored else None
    output = module(inputs["x"], inputs["memory"], future(4), memory_key_padding_mask=ignored)
    cotangent = source.normal(output.shape)
    parameters = dict(module.named_parameters())
    wanted = {**inputs, **parameters}
    grads = dict(zip(wanted, torch.autograd.grad(output, list(wanted.values()), cotangent)))
    constants = {"memory_key_padding_mask": ignored} if memory_ignored else {}
    return {"layer": "TransformerDecoderLayer", "config": config, "parameters": named(parameters),
            "inputs": named({**inputs, **constants}), "output": encode(output), "cotangent": encode(cotangent),
            "input_grads": named({k: grads[k] for k in inputs}),
            "parameter_grads": named({k: grads[k] for k in parameters})}


class Transformer(nn.Module):
    """Vaswani et al., arXiv 1706.03762: one embedding for source, target and output; sinusoidal positions; relu."""

    def __init__(self, *, vocab, dim, heads, mlp_dim, encoder_layers, decoder_layers, norm_first):
        super().__init__()
        self.source_embedding = nn.Module()
        self.source_embedding.tokens = nn.Embedding(vocab, dim, padding_idx=0)
        arguments = (dim, heads, mlp_dim, 0.0, "relu", 1e-5, True, norm_first)
        self.encoder = nn.ModuleList(nn.TransformerEncoderLayer(*arguments) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(nn.TransformerDecoderLayer(*arguments) for _ in range(decoder_layers))
        if norm_first:
            self.encoder_norm, self.decoder_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def embed(self, ids):
        words = self.source_embedding.tokens(ids)
        dim = words.size(-1)
        t, d = torch.arange(ids.size(1))[:, None], torch.arange(dim)[None]
        angle = t * 10000.0**(-(d // 2 * 2) / dim)
        return words * dim**0.5 + torch.where(d % 2 == 0, angle.sin(), angle.cos())

    def forward(self, source, target):
        padding = source == 0
        x = self.embed(source)
        for block in self.encoder:
            x = block(x, src_key_padding_mask=padding)
        memory = self.encoder_norm(x) if hasattr(self, "encoder_norm") else x
        y = self.embed(target)
        for block in self.decoder:
            y = block(y, memory, future(target.size(1)), memory_key_padding_mask=padding)
        if hasattr(self, "decoder_norm"):
            y = self.decoder_norm(y)
        return F.linear(y, self.source_embedding.tokens.weight)


def model(norm_first):
    config = {"vocab": 9, "dim": 6, "heads": 2, "mlp_dim": 8, "encoder_layers": 2, "decoder_layers": 1,
              "norm_first": norm_first}
    module = Transformer(**config)
    initialise(module, Source(f"Transformer/{config}"))
    source = torch.tensor([[5, 7, 8, 3], [6, 3, 0, 0]])
    target_in, target = torch.tensor([[2, 8, 5], [2, 4, 0]]), torch.tensor([[8, 5, 3], [4, 3, 0]])
    logits = module(source, target_in)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0, label_smoothing=0.1)
    parameters = dict(module.named_parameters())
    grads = torch.autograd.grad(loss, list(parameters.values()))
    return {"model": "Transformer", "config": config, "parameters": named(parameters), "source": encode(source),
            "target_in": encode(target_in), "target": encode(target), "label_smoothing": 0.1,
            "logits": encode(logits), "loss": encode(loss), "grads": named(dict(zip(parameters, grads)))}


def all_cases():
    ignored = [[False, False, True], [False, True, True]]
    return [layer(False, "relu", ignored), layer(True, "gelu", ignored), layer(False, "gelu", None),
            model(False), model(True)]
