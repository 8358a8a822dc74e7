#!/usr/bin/env python3
"""Live exchange of GPT-2 and BERT folders with `transformers`, both ways: `make interop` runs it.

    python tests/interop.py          # a Python with torch (CPU is enough) and transformers; cargo in the path

1. Models made here are saved by save_pretrained (and one as pytorch_model.bin); curricle loads them, computes logits and writes
   them out again.
2. from_pretrained has to load every folder curricle wrote (those, and models of its own) with no missing, unexpected or mismatched
   key, and give the same logits to 1e-4.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

ROOT = pathlib.Path(__file__).resolve().parent.parent
VOCAB, SEQUENCES, LENGTH = 7, 3, 11
TOLERANCE = 1e-4


def gpt2(**changes):
    return GPT2LMHeadModel(GPT2Config(**{
        "vocab_size": VOCAB, "n_positions": 20, "n_embd": 16, "n_layer": 2, "n_head": 4, "initializer_range": 0.2,
        "bos_token_id": 0, "eos_token_id": 1, **changes}))


def bert(**changes):
    return BertForMaskedLM(BertConfig(**{
        "vocab_size": VOCAB, "max_position_embeddings": 20, "hidden_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 40, "initializer_range": 0.2, **changes}))


def run(model, case):
    tokens = torch.tensor(case["tokens"]).reshape(SEQUENCES, LENGTH)
    mask = torch.tensor(case["mask"]).reshape(SEQUENCES, LENGTH)
    with torch.no_grad():
        return model.eval()(input_ids=tokens, attention_mask=mask).logits.flatten()


def compare(what, logits, folder):
    ours = torch.tensor(json.loads((folder / "logits.json").read_text()))
    error = (logits - ours).abs().max().item()
    print(f"{what}: largest difference {error:.1e}")
    return error <= TOLERANCE


def main(home):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    theirs = home / "theirs"
    models = {
        "gpt2": gpt2(), "gpt2-untied": gpt2(tie_word_embeddings=False, n_inner=24),
        "bert": bert(), "bert-untied": bert(tie_word_embeddings=False),
        "bert-tanh": bert(hidden_act="gelu_new", pad_token_id=None, type_vocab_size=1),
    }
    with torch.no_grad():
        for model in models.values():
            for p in model.parameters():
                if p.dim() == 1:
                    p.add_(0.2 * torch.randn_like(p))
    for name, model in models.items():
        model.save_pretrained(theirs / name)
    # The older format, with the tied head beside the embeddings.
    models["gpt2-bin"] = models["gpt2"]
    models["gpt2"].config.save_pretrained(theirs / "gpt2-bin")
    torch.save(models["gpt2"].state_dict(), theirs / "gpt2-bin" / "pytorch_model.bin")

    mask = (torch.rand(SEQUENCES, LENGTH) > 0.3).int()
    mask[:, 0] = 1
    case = {
        "vocab": VOCAB, "length": LENGTH, "tokens": torch.randint(0, VOCAB, (SEQUENCES * LENGTH,)).tolist(),
        "mask": mask.flatten().tolist(),
    }
    (home / "case.json").write_text(json.dumps(case))
    command = ["cargo", "test", "--release", "--locked", "--test", "interop", "--", "--ignored", "--nocapture"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "CURRICLE_INTEROP": str(home)}, check=True)

    good = True
    for name, model in models.items():
        logits = run(model, case)
        good &= compare(f"{name}, loaded by curricle", logits, theirs / name)
    for folder in sorted((home / "ours").iterdir()):
        kind = GPT2LMHeadModel if "gpt2" in folder.name else BertForMaskedLM
        model, info = kind.from_pretrained(folder, output_loading_info=True)
        problems = {key: value for key, value in info.items() if value}
        if problems:
            print(f"{folder.name}: from_pretrained says {problems}")
            good = False
        source = folder.name.removeprefix("from-")
        place = theirs / source if folder.name.startswith("from-") else folder
        good &= compare(f"{folder.name}, loaded by transformers", run(model, case), place)
    return good


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        if not main(pathlib.Path(folder)):
            sys.exit("curricle and transformers disagree")
    print("both directions agree")
