#!/usr/bin/env python3
"""Makes the golden files of `curricle probe` in the folder bert_cfg3b: a small BERT as `save_pretrained` writes it, and
expected.json with the n-gram measures and hidden states of PyTorch in float64.

    python3 -m venv .venv && .venv/bin/pip install torch transformers numpy   # CPU wheels are enough
    .venv/bin/python tests/goldens/make_ngram.py

The files are committed, so the tests need no Python. SENTENCES are the lines of
`curricle pcfg sample --grammar cfg3b --start 15 --held-out --seed 8 --count 6`.
"""

import json
import pathlib

import torch
from transformers import BertConfig, BertForMaskedLM

HERE = pathlib.Path(__file__).resolve().parent / "bert_cfg3b"
SENTENCES = """
cbacacabcbcacbacacbacab
cbcbacacbcacbacbacbca
cbacacababccbcbaabccbacb
cabcbacacacbcbacbacbabc
cbcbacacbcacbacbacababc
cacbcbacbaabccbcacbacb
""".split()
BOS, MASK = 3, 6
POSITIONS = [1, 6, 12, 18, 21]
SIZES = [2, 3, 4, 5]


def main():
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=8, max_position_embeddings=28, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, initializer_range=0.4, attn_implementation="eager")
    model = BertForMaskedLM(config).eval()
    model.save_pretrained(HERE)
    model = model.double()

    def predict(tokens, hidden, position):
        ids = torch.tensor([[BOS] + [MASK if p in hidden else t for p, t in enumerate(tokens, 1)]])
        keys = torch.tensor([[1] + [0 if p in hidden else 1 for p in range(1, len(tokens) + 1)]])
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=keys).logits[0, position].softmax(-1)

    rows = []
    for sentence, text in enumerate(SENTENCES):
        tokens = ["abc".index(c) for c in text]
        everywhere = set(range(1, len(tokens) + 1))
        for p in POSITIONS:
            own = predict(tokens, {p}, p)
            for n in SIZES:
                window = {2: [-1, 0], 3: [-1, 0, 1], 4: [-2, -1, 0, 1], 5: [-2, -1, 0, 1, 2]}[n]
                near = {p + o for o in window} & everywhere
                robust = (own - predict(tokens, near, p)).abs().sum().item()
                close = (own - predict(tokens, everywhere - near | {p}, p)).abs().sum().item()
                rows.append({"sentence": sentence, "position": p, "n": n, "robust": robust, "close": close})
    (HERE / "expected.json").write_text(json.dumps({"sentences": SENTENCES, "rows": rows}, indent=0) + "\n")


if __name__ == "__main__":
    main()
