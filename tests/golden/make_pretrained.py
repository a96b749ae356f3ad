#!/usr/bin/env python3
"""Makes tests/golden/pretrained/: tiny random models of each family, as the reference implementation saves them, and
what it computes with them in f64: outputs, loss and the gradient of every parameter.

    pip install torch==2.15.0 transformers==5.24.0 timm==1.0.31
    tests/golden/make_pretrained.py [NAME...]

A folder holds config.json and model.safetensors as the reference wrote them, and golden.safetensors: the inputs by
name, `output`, `target`, `loss`, and `grad.NAME` for each of the reference's parameters. `resized.safetensors`, where
there is one, has larger `images` and the `output` with positions interpolated as the reference does it.
"""
import json

import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
import transformers as hf
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent / "pretrained"
torch.set_num_threads(1)
SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
NO_NOISE = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def fill(model):
    """Every parameter and buffer of weights random, none without influence; reproducible by its name."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            source = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            values = torch.randn(p.shape, generator=source) * 0.3
            norm = ("norm" in name.lower() or "ln_" in name) and name.endswith("weight")
            p.copy_(1 + values if norm else values)
            if name.endswith(("word_embeddings.weight", "shared.weight")):
                p[model.config.pad_token_id] = 0
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.copy_(torch.randn(model.final_logits_bias.shape, generator=torch.Generator().manual_seed(5)))


def published(model, gradients):
    """Gradients under the names that are published: what is saved where they stand in the parameters' place."""
    if not hasattr(model, "save_pretrained"):
        return {n: g for n, g in gradients.items() if g is not None}
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        kept = {n: p.clone() for n, p in model.named_parameters()}
        for n, p in model.named_parameters():
            p.copy_(torch.zeros_like(p) if gradients.get(n) is None else gradients[n])
        model.save_pretrained(folder)
        for n, p in model.named_parameters():
            p.copy_(kept[n])
        return {n: t for n, t in load_file(Path(folder) / "model.safetensors").items() if n != "final_logits_bias"}


def golden(folder, model, inputs, forward, loss_of, target, name="golden"):
    model.double().eval()
    output = forward(model, **inputs)
    loss = loss_of(output, target)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    tensors = {**inputs, "target": target, "output": output.detach(), "loss": loss.detach().reshape(1)}
    tensors |= {f"grad.{n}": g for n, g in published(model, dict(zip(parameters, grads))).items()}
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / f"{name}.safetensors")


def images(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def resized(folder, model, size, forward):
    x = images(2, 3, *size)
    with torch.no_grad():
        save_file({"images": x, "output": forward(model, x).contiguous()}, folder / "resized.safetensors")


def classes(output, target):
    return F.cross_entropy(output, target)


def words(output, target):
    return F.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=-100)


def squares(output, target):  # of a model without a head
    return ((output - target)**2).mean()


LABELS = torch.tensor([3, 0])


def hf_image_model(folder, model, size, head=True, interpolate=None, larger=None):
    fill(model)
    model.save_pretrained(folder)

    def forward(m, images, **how):
        out = m(pixel_values=images, **how)
        return out.logits if head else out.last_hidden_state[:, 0]

    target = LABELS if head else images(2, 8)
    golden(folder, model, {"images": images(2, 3, *size)}, forward, classes if head else squares, target)
    if larger:
        resized(folder, model, larger, lambda m, x: forward(m, x, **(interpolate or {})))


def vit(folder):
    config = hf.ViTConfig(**SIZES, **NO_NOISE, image_size=8, patch_size=4, num_labels=5)
    hf_image_model(folder, hf.ViTForImageClassification(config), (8, 8), interpolate={"interpolate_pos_encoding": True},
                   larger=(20, 20))


def vit_backbone(folder):
    config = hf.ViTConfig(**SIZES, **NO_NOISE, image_size=8, patch_size=4, qkv_bias=False, hidden_act="gelu_new",
                          layer_norm_eps=1e-3)
    hf_image_model(folder, hf.ViTModel(config, add_pooling_layer=False), (8, 8), head=False)


def deit(folder):
    config = hf.DeiTConfig(**SIZES, **NO_NOISE, image_size=8, patch_size=4, num_labels=5)
    hf_image_model(folder, hf.DeiTForImageClassificationWithTeacher(config), (8, 8))


def dinov2(folder):
    config = hf.Dinov2Config(**{k: v for k, v in SIZES.items() if k != "intermediate_size"}, **NO_NOISE, mlp_ratio=2,
                             image_size=12, patch_size=4, layerscale_value=0.5)
    hf_image_model(folder, hf.Dinov2Model(config), (12, 12), head=False, larger=(20, 20))


def dinov2_registers(folder):
    config = hf.Dinov2WithRegistersConfig(**{k: v for k, v in SIZES.items() if k != "intermediate_size"}, **NO_NOISE,
                                          mlp_ratio=2, image_size=8, patch_size=4, num_register_tokens=3)
    hf_image_model(folder, hf.Dinov2WithRegistersModel(config), (8, 8), head=False)


def timm_model(folder, name, size=(8, 8), larger=None, **arguments):
    arguments = dict(img_size=size if size[0] != size[1] else size[0], patch_size=4, embed_dim=8, depth=2, num_heads=2,
                     mlp_ratio=1.5, num_classes=5, **arguments)
    model = timm.create_model(name, **arguments)
    fill(model)
    folder.mkdir(parents=True, exist_ok=True)
    timm.models.save_for_hf(model, folder, model_args=arguments, safe_serialization=True)

    def forward(m, images):
        return m(images)

    golden(folder, model, {"images": images(2, 3, *size)}, forward, classes, LABELS)
    if larger:
        other = timm.create_model(name, **{**arguments, "img_size": larger[0]})
        state = {k: v.float() for k, v in model.state_dict().items()}
        other.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(state, other))
        resized(folder, other.double().eval(), larger, forward)


def timm_vit(folder):
    timm_model(folder, "vit_tiny_patch16_224", larger=(20, 20))


def timm_average(folder):
    timm_model(folder, "vit_base_patch16_224", global_pool="avg", class_token=False, qkv_bias=False, init_values=0.5,
               pre_norm=True)


def timm_registers(folder):
    timm_model(folder, "vit_base_patch16_224", size=(8, 12), reg_tokens=2, no_embed_class=True)


def timm_deit(folder):
    timm_model(folder, "deit_tiny_distilled_patch16_224")


IDS = torch.tensor([[2, 7, 9, 3, 11, 3], [2, 8, 3, 0, 0, 0]])
SEGMENTS = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]])
MASKED = torch.tensor([[-100, 4, -100, 5, -100, -100], [-100, 8, -100, -100, -100, -100]])
BERT = dict(**SIZES, **NO_NOISE, vocab_size=20, max_position_embeddings=10)


def text_model(folder, model, inputs, target, loss_of, attribute="logits", save=True):
    if save:
        fill(model)
        model.save_pretrained(folder)

    def forward(m, **inputs):
        out = getattr(m(**inputs), attribute)
        return out[:, 0] if attribute == "last_hidden_state" else out

    golden(folder, model, inputs, forward, loss_of, target)


def bert_inputs(ids=IDS):
    return {"input_ids": ids, "token_type_ids": SEGMENTS, "attention_mask": (ids != 0).long()}


def bert(folder):
    text_model(folder, hf.BertForSequenceClassification(hf.BertConfig(**BERT, num_labels=5)), bert_inputs(), LABELS,
               classes)


def bert_masked(folder):
    text_model(folder, hf.BertForMaskedLM(hf.BertConfig(**BERT, hidden_act="relu", layer_norm_eps=1e-3)), bert_inputs(),
               MASKED, words)


def bert_left(folder):
    """Padding at the front, by an explicit mask."""
    ids = torch.tensor([[2, 7, 9, 3, 11, 3], [0, 0, 0, 2, 8, 3]])
    text_model(folder, hf.BertModel(hf.BertConfig(**BERT)), bert_inputs(ids), images(2, 8), squares, "pooler_output")


class Sentence(torch.nn.Module):
    """As a sentence encoder reads BERT: the mean of the tokens that are not masked, without pooler."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, attention_mask, **inputs):
        x = self.body(attention_mask=attention_mask, **inputs).last_hidden_state
        kept = attention_mask.unsqueeze(2).to(x.dtype)
        return (x * kept).sum(1) / kept.sum(1)


def sentence(folder):
    body = hf.BertModel(hf.BertConfig(**BERT))
    fill(body)
    body.save_pretrained(folder)
    (folder / "modules.json").write_text(json.dumps([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(
        {"word_embedding_dimension": 8, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}))
    golden(folder, Sentence(body), bert_inputs(), lambda m, **inputs: m(**inputs), squares, images(2, 8))
    tensors = {}
    for name, tensor in load_file(folder / "golden.safetensors").items():
        tensors[name.replace("grad.body.", "grad.")] = tensor
    save_file(tensors, folder / "golden.safetensors")


def roberta_inputs(left=False):
    ids = torch.tensor([[0, 7, 9, 2, 2, 3, 2], [1, 1, 1, 0, 8, 3, 2] if left else [0, 8, 3, 2, 1, 1, 1]])
    return {"input_ids": ids, "attention_mask": (ids != 1).long()}


ROBERTA = {**BERT, "type_vocab_size": 1, "max_position_embeddings": 12}


def roberta(folder):
    text_model(folder, hf.RobertaForSequenceClassification(hf.RobertaConfig(**ROBERTA, num_labels=5)),
               roberta_inputs(left=True), LABELS, classes)


def roberta_masked(folder):
    target = torch.tensor([[-100, 4, -100, 5, -100, -100, -100], [-100, 8, -100, -100, -100, -100, -100]])
    text_model(folder, hf.RobertaForMaskedLM(hf.RobertaConfig(**ROBERTA)), roberta_inputs(), target, words)


GPT2 = dict(vocab_size=20, n_positions=10, n_embd=8, n_layer=2, n_head=2, n_inner=12, embd_pdrop=0.0, attn_pdrop=0.0,
            resid_pdrop=0.0, bos_token_id=19, eos_token_id=19)


def gpt2(folder, **more):
    ids = torch.tensor([[4, 7, 9, 3, 11], [2, 8, 3, 1, 0]])
    target = torch.tensor([[7, 9, 3, 11, 5], [8, 3, 1, 0, 6]])
    text_model(folder, hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2, **more)), {"input_ids": ids}, target, words)


def gpt2_untied(folder):
    gpt2(folder, tie_word_embeddings=False, activation_function="relu")


BART = dict(vocab_size=20, d_model=8, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=12, decoder_ffn_dim=12, max_position_embeddings=10, dropout=0.0,
            attention_dropout=0.0, activation_dropout=0.0)


def bart(folder, **more):
    ids = torch.tensor([[0, 7, 9, 4, 11, 2], [0, 8, 2, 1, 1, 1]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 1).long(),
              "decoder_input_ids": torch.tensor([[2, 0, 5, 6], [2, 0, 12, 1]])}
    target = torch.tensor([[0, 5, 6, 2], [0, 12, 2, -100]])
    text_model(folder, hf.BartForConditionalGeneration(hf.BartConfig(**BART, **more)), inputs, target, words)


def bart_scaled(folder):
    bart(folder, scale_embedding=True, activation_function="relu")


CASES = [vit, vit_backbone, deit, dinov2, dinov2_registers, timm_vit, timm_average, timm_registers, timm_deit, bert,
         bert_masked, bert_left, sentence, roberta, roberta_masked, gpt2, gpt2_untied, bart, bart_scaled]


def main():
    for case in CASES:
        if len(sys.argv) > 1 and case.__name__ not in sys.argv[1:]:
            continue
        folder = HERE / case.__name__
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        case(folder)
        for extra in ("generation_config.json", "README.md"):
            (folder / extra).unlink(missing_ok=True)
        print(case.__name__, *(f"{f.name} {f.stat().st_size}" for f in sorted(folder.iterdir()) if f.is_file()))


if __name__ == "__main__":
    main()
