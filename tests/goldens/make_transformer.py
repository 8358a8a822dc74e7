#!/usr/bin/env python3
"""Makes the transformers' golden files in this folder.

    python3 -m venv .venv && .venv/bin/pip install torch transformers numpy   # CPU wheels are enough
    .venv/bin/python tests/goldens/make_transformer.py

The files are committed, so the tests need no Python. Raise VERSION when the content changes; the tests check it.

One .safetensors per model. Tensors (f32): initial/NAME, gradient/NAME of the first step's loss, adam/NAME and adamw/NAME
after ten steps, logits and losses_adam, losses_adamw. The metadata's "golden" is JSON: config.json, tokens [step][sequence][t],
mask or null, reads [read] (b * length + t, the same in every step), targets [step][read][vocab], and both optimisers' settings.
Everything is float64 PyTorch from f32 initial parameters and f32 targets. Loss: mean over the reads of the cross-entropy
against the target distribution.
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

VERSION = 1
HERE = pathlib.Path(__file__).resolve().parent
REBUILD = "python tests/goldens/make_transformer.py (torch, transformers)"
STEPS = 10
ADAM = {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05, "clip": None}
ADAMW = {"betas": [0.9, 0.95], "eps": 1e-6, "weight_decay": 0.1, "clip": 0.3}
# Warm-up and decay, so that the rate changes every step.
RATES = [0.002, 0.004, 0.006, 0.008, 0.01, 0.009, 0.008, 0.006, 0.004, 0.002]


def gpt2(tied):
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=5, n_positions=9, n_embd=8, n_layer=2, n_head=2, n_inner=12, initializer_range=0.4,
        attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, bos_token_id=None, eos_token_id=None,
        tie_word_embeddings=tied, attn_implementation="eager"))


def bert():
    return BertForMaskedLM(BertConfig(
        vocab_size=6, max_position_embeddings=10, hidden_size=12, num_hidden_layers=2, num_attention_heads=1,
        intermediate_size=10, initializer_range=0.4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        attn_implementation="eager"))


def make(name, model, masked):
    torch.manual_seed(len(name))
    # So that biases and layer norms matter too. The padding row stays zero.
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.add_(0.2 * torch.randn_like(p))
    initial = {k: p.detach().clone() for k, p in model.named_parameters()}
    model = model.double().train()
    vocab, sequences, length = model.config.vocab_size, 4, 7
    tokens = torch.randint(0, vocab, (STEPS, sequences, length))
    mask = None
    if masked:
        mask = (torch.rand(sequences, length) > 0.3).long()
        mask[:, 0] = 1
    reads = [3, 6, 7, 13, 20, 22, 27]
    targets = torch.softmax(2 * torch.randn(STEPS, len(reads), vocab), -1)

    def loss_of(step):
        logits = model(input_ids=tokens[step], attention_mask=mask).logits.reshape(-1, vocab)[reads]
        return torch.nn.functional.cross_entropy(logits, targets[step].double()), logits

    # Hugging Face's rule: no decay of biases and layer norms.
    named = list(model.named_parameters())
    plain = [p for k, p in named if k.endswith("bias") or "ln_" in k or "LayerNorm" in k]
    decayed = [p for k, p in named if not any(p is q for q in plain)]
    tensors = {f"initial/{k}": v for k, v in initial.items()}
    for key, kind, settings in [("adam", torch.optim.Adam, ADAM), ("adamw", torch.optim.AdamW, ADAMW)]:
        with torch.no_grad():
            for k, p in named:
                p.copy_(initial[k])
        optimizer = kind(
            [{"params": decayed, "weight_decay": settings["weight_decay"]}, {"params": plain, "weight_decay": 0.0}],
            lr=1.0, betas=tuple(settings["betas"]), eps=settings["eps"])
        losses, norms = [], []
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = RATES[step]
            optimizer.zero_grad()
            loss, logits = loss_of(step)
            loss.backward()
            losses.append(loss.item())
            if step == 0 and key == "adam":
                tensors["logits"] = logits.detach().float()
                tensors |= {f"gradient/{k}": p.grad.float().clone() for k, p in named}
            limit = settings["clip"] or float("inf")
            norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), limit).item())
            optimizer.step()
        tensors |= {f"{key}/{k}": p.detach().float().clone() for k, p in named}
        tensors[f"losses_{key}"] = torch.tensor(losses, dtype=torch.float64).float()
        tensors[f"norms_{key}"] = torch.tensor(norms, dtype=torch.float64).float()
    model.config.architectures = [type(model).__name__]
    golden = {
        "version": VERSION, "rebuild": REBUILD, "torch": torch.__version__, "config": json.loads(model.config.to_json_string(False)),
        "tokens": tokens.tolist(), "mask": mask.tolist() if masked else None, "reads": reads,
        "targets": [[[float(str(x)) for x in row] for row in step] for step in targets.numpy()],
        "rates": RATES, "adam": ADAM, "adamw": ADAMW,
    }
    save_file({k: v.contiguous() for k, v in tensors.items()}, HERE / f"{name}.safetensors",
              metadata={"golden": json.dumps(golden)})


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(1)
    make("gpt2_tied", gpt2(True), masked=False)
    make("gpt2_untied", gpt2(False), masked=True)
    make("bert", bert(), masked=True)
