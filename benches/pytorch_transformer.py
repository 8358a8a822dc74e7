"""The other side of `curricle bench transformer --pytorch PYTHON`: the same training steps with `transformers` in eager PyTorch.

Reads one number of seconds a line, trains that long, and prints one JSON object: {"steps_per_second", "torch", "threads"}.
Attention is the library's default (SDPA).
"""

import argparse
import json
import sys
import time

import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

parser = argparse.ArgumentParser()
parser.add_argument("--family", choices=["gpt2", "bert"], required=True)
for name in ("vocab", "positions", "hidden", "layers", "heads", "sequences", "length"):
    parser.add_argument(f"--{name}", type=int, required=True)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--cpu-time", action="store_true", help="count processor time (with one thread), not elapsed time")
a = parser.parse_args()

torch.set_num_threads(a.threads)
torch.manual_seed(0)
torch.set_flush_denormal(True)
if a.family == "gpt2":
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=a.vocab, n_positions=a.positions, n_embd=a.hidden, n_layer=a.layers, n_head=a.heads,
        attn_pdrop=a.dropout, embd_pdrop=a.dropout, resid_pdrop=a.dropout, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=None))
    tokens = torch.randint(0, a.vocab, (a.sequences, a.length))
    labels = torch.randint(0, a.vocab, (a.sequences,))

    def loss_of():
        # Only the last position's logits are asked for, as the library allows.
        logits = model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits[:, -1]
        return torch.nn.functional.cross_entropy(logits, labels)
else:
    model = BertForMaskedLM(BertConfig(
        vocab_size=a.vocab, max_position_embeddings=a.positions, hidden_size=a.hidden, num_hidden_layers=a.layers,
        num_attention_heads=a.heads, intermediate_size=4 * a.hidden, hidden_dropout_prob=a.dropout,
        attention_probs_dropout_prob=a.dropout))
    # Masked prediction: 30% of the positions are hidden as keys and predicted.
    chosen = torch.rand(a.sequences, a.length) < 0.3
    words = torch.randint(0, 4, (a.sequences, a.length))
    tokens = torch.where(chosen, torch.tensor(min(6, a.vocab - 1)), words)
    labels = torch.where(chosen, words, torch.tensor(-100)).flatten()
    mask = (~chosen).long()

    def loss_of():
        logits = model(input_ids=tokens, attention_mask=mask).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels)
model.train()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)


def step():
    optimizer.zero_grad()
    loss = loss_of()
    loss.backward()
    optimizer.step()


clock = time.process_time if a.cpu_time else time.perf_counter
step()
step()
for line in sys.stdin:
    done, start = 0, clock()
    while True:
        step()
        done += 1
        elapsed = clock() - start
        if elapsed >= float(line):
            break
    print(json.dumps({
        "steps_per_second": done / elapsed, "torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
