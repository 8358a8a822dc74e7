#!/usr/bin/env python3
"""Makes the golden files in this folder, and checks files that curricle wrote.

    python3 -m venv .venv && .venv/bin/pip install torch safetensors numpy tensorboard   # CPU wheels are enough
    .venv/bin/python tests/goldens/make_goldens.py               # writes the files beside this script
    .venv/bin/python tests/goldens/make_goldens.py --check FILE  # FILE: a .safetensors of curricle, or an event file

The files are committed, so the tests need no Python. Raise VERSION when the content changes; the tests check it.
"""

import collections
import json
import pathlib
import sys

import numpy
import torch
from safetensors.torch import load_file, save_file

VERSION = 1
HERE = pathlib.Path(__file__).resolve().parent
REBUILD = "python tests/goldens/make_goldens.py (torch, safetensors)"


def mlp(d, hidden, classes):
    return torch.nn.Sequential(torch.nn.Linear(d, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, classes))


def signs(*shape):
    return torch.randint(0, 2, shape).float() * 2 - 1


def numbers(tensor):
    """Nested lists. The shortest text that gives the same number back in the tensor's own precision."""
    if tensor.dim():
        return [numbers(t) for t in tensor]
    value = tensor.detach().item()
    return float(str(numpy.float32(value))) if tensor.dtype == torch.float32 else value


def checkpoints():
    """One model in every layout that the loader takes, its logits, and the values each file must give."""
    torch.manual_seed(1)
    model = mlp(5, 4, 2)
    state = model.state_dict()
    x = signs(3, 5)
    # With momentum, so that the optimizer state holds tensors of the weights' shapes.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    model(x).sum().backward()
    optimizer.step()
    bf16 = {k: v.bfloat16() for k, v in state.items()}
    layers = [{"weight": state[f"{i}.weight"], "bias": state[f"{i}.bias"]} for i in (0, 2)]
    fc = collections.OrderedDict(
        [("fc2.weight", state["2.weight"]), ("fc2.bias", state["2.bias"]),
         ("fc1.weight", state["0.weight"]), ("fc1.bias", state["0.bias"])]
    )
    files = {
        "plain.pt": lambda f: torch.save(state, f),
        "legacy.pth": lambda f: torch.save(state, f, _use_new_zipfile_serialization=False),
        "nested.pt": lambda f: torch.save(
            {"model_state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()},
             "optimizer_state_dict": optimizer.state_dict(), "step": 1200, "loss": 0.5}, f),
        "layers.pt": lambda f: torch.save(layers, f),
        "layers_legacy.pth": lambda f: torch.save(layers, f, _use_new_zipfile_serialization=False),
        "fc.pt": lambda f: torch.save(fc, f),
        # A transposed view: same values, strides (1, 5) in the file.
        "strided.pt": lambda f: torch.save(
            {**state, "0.weight": state["0.weight"].T.contiguous().T}, f),
        "double.pt": lambda f: torch.save({k: v.double() for k, v in state.items()}, f),
        "bf16.pt": lambda f: torch.save(bf16, f),
        "f16.safetensors": lambda f: save_file({k: v.half() for k, v in state.items()}, f),
        "python.safetensors": lambda f: save_file(dict(state), f, metadata={"format": "pt", "note": "from Python"}),
        "no_bias.pt": lambda f: torch.save({k: v for k, v in state.items() if k.endswith("weight")}, f),
        # Must be refused.
        "one_layer.pt": lambda f: torch.save(torch.nn.Linear(5, 2).state_dict(), f),
        "integers.pt": lambda f: torch.save({k: v.long() for k, v in state.items()}, f),
        "transformer.pt": lambda f: torch.save({"transformer.h.0.attn.c_attn.weight": torch.zeros(4, 12)}, f),
    }
    for name, write in files.items():
        write(str(HERE / name))

    def run(values):
        h = torch.relu(x @ values["0.weight"].T + values["0.bias"])
        return numbers(h @ values["2.weight"].T + values["2.bias"])

    def rounded(to):
        return {k: v.to(to).float() for k, v in state.items()}

    zero_bias = {k: (torch.zeros_like(v) if k.endswith("bias") else v) for k, v in state.items()}
    variants = {"f32": state, "bf16": rounded(torch.bfloat16), "f16": rounded(torch.float16), "no_bias": zero_bias}
    golden = {
        "version": VERSION, "rebuild": REBUILD, "torch": torch.__version__,
        "about": "the same model in every file; per variant: its parameters exactly, and logits = model(inputs)",
        "inputs": numbers(x),
        "variants": {
            name: {"parameters": {k: numbers(v) for k, v in values.items()}, "logits": run(values)}
            for name, values in variants.items()
        },
        "files": {
            name: {"bf16.pt": "bf16", "f16.safetensors": "f16", "no_bias.pt": "no_bias"}.get(name, "f32")
            for name in files if name not in ("one_layer.pt", "integers.pt", "transformer.pt")
        },
    }
    (HERE / "checkpoints.json").write_text(json.dumps(golden) + "\n")


def training():
    """Ten steps of SGD on soft targets."""
    cases = []
    for classes in (2, 4):
        torch.manual_seed(10 + classes)
        d, hidden, batch, steps, rate, decay = 10, 7, 4, 10, 0.1, 0.01
        model = mlp(d, hidden, classes)
        initial = {k: numbers(v) for k, v in model.state_dict().items()}
        # Float64 from here: the reference should be closer to the truth than any f32 engine.
        model = model.double()
        inputs = signs(steps, batch, d).double()
        teacher_logits = (2 * torch.randn(steps, batch, classes)).float().double()
        # The targets are f32 numbers, so that an f32 engine is given exactly what PyTorch was given.
        targets = torch.softmax(teacher_logits, -1).float().double()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, weight_decay=decay)
        losses = []
        for step in range(steps):
            optimizer.zero_grad()
            logits = model(inputs[step])
            # Mean over the batch of -sum_c q_c log softmax(z)_c.
            loss = torch.nn.functional.cross_entropy(logits, targets[step])
            loss.backward()
            losses.append(loss.item())
            if step == 0:
                first = {
                    "logits": numbers(logits), "loss": loss.item(),
                    "gradients": {k: numbers(p.grad) for k, p in model.named_parameters()},
                }
            optimizer.step()
        cases.append({
            "d": d, "hidden": [hidden], "classes": classes, "batch": batch, "steps": steps,
            "learning_rate": rate, "weight_decay": decay,
            "initial": initial, "inputs": inputs.int().tolist(), "targets": numbers(targets.float()), "first_step": first, "losses": losses,
            "final": {k: numbers(v) for k, v in model.state_dict().items()},
        })
    golden = {
        "version": VERSION, "rebuild": REBUILD, "torch": torch.__version__,
        "about": "float64 PyTorch from f32 initial parameters and f32 targets (a softmax). inputs and "
                 "targets are [step][sample][..]. Loss: soft cross-entropy, mean over the batch, before the step. "
                 "torch.optim.SGD(lr, weight_decay): gradient + weight_decay * parameter, biases included; "
                 "first_step.gradients are without the decay.",
        "cases": cases,
    }
    (HERE / "mlp_training.json").write_text(json.dumps(golden) + "\n")


def check(file):
    """Prints what PyTorch or TensorBoard reads from a file of curricle's."""
    if "tfevents" in file:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        for event in EventFileLoader(file).Load():
            print(event.wall_time, event.step, event.file_version, [
                (v.tag, v.tensor.float_val[0] if v.HasField("tensor") else v.simple_value) for v in event.summary.value
            ])
        return
    from safetensors import safe_open

    state = load_file(file)
    with safe_open(file, "pt") as opened:
        print("metadata:", json.dumps(opened.metadata(), sort_keys=True))
    linears = [state[k] for k in sorted(state, key=lambda k: int(k.split(".")[0])) if k.endswith("weight")]
    sizes = [linears[0].shape[1]] + [w.shape[0] for w in linears]
    modules = []
    for fan_in, fan_out in zip(sizes, sizes[1:]):
        modules += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1])
    model.load_state_dict(state)
    golden = json.loads((HERE / "checkpoints.json").read_text())
    if sizes[0] == len(golden["inputs"][0]):
        logits = model(torch.tensor(golden["inputs"]))
        print("logits:", numbers(logits))
        for name, variant in golden["variants"].items():
            same = all(
                torch.equal(state[k], torch.tensor(v)) for k, v in variant["parameters"].items() if k in state
            )
            print(f"parameters equal those of {name}: {same}")
    print("shape:", "-".join(map(str, sizes)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"] and len(sys.argv) == 3:
        check(sys.argv[2])
    elif len(sys.argv) == 1:
        checkpoints()
        training()
    else:
        sys.exit(__doc__)
