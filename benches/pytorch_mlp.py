"""The other side of `curricle bench mlp --pytorch PYTHON`: the same training in eager PyTorch, written the plain way.

Prints one JSON object: {"steps_per_second", "torch", "threads"}; several students are trained in turn in one loop, and
their steps summed.
"""

import argparse
import json
import time

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, required=True)
parser.add_argument("--d", type=int, required=True)
parser.add_argument("--batch", type=int, required=True)
parser.add_argument("--students", type=int, default=1)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rate", type=float, default=0.005)
parser.add_argument("--seconds", type=float, default=2.0)
parser.add_argument("--cpu-time", action="store_true", help="count processor time (with one thread), not elapsed time")
parser.add_argument("--forward", action="store_true", help="logits only")
arguments = parser.parse_args()

torch.set_num_threads(arguments.threads)
torch.manual_seed(0)
# Fitted samples have denormal gradients, which would slow PyTorch down a hundredfold; ours does not suffer from them.
torch.set_flush_denormal(True)
samples = max(2048, 4 * arguments.batch)
x = torch.randint(0, 2, (samples, arguments.d)).float() * 2 - 1
y = (x[:, : min(6, arguments.d)].prod(dim=1) < 0).long()
loss_function = torch.nn.CrossEntropyLoss()
students = []
for _ in range(arguments.students):
    model = torch.nn.Sequential(
        torch.nn.Linear(arguments.d, arguments.width), torch.nn.ReLU(), torch.nn.Linear(arguments.width, 2)
    )
    students.append((model, torch.optim.SGD(model.parameters(), lr=arguments.rate)))


def train(first):
    """One step of every student."""
    inputs, labels = x[first : first + arguments.batch], y[first : first + arguments.batch]
    for model, optimizer in students:
        optimizer.zero_grad()
        loss = loss_function(model(inputs), labels)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def forward(first):
    inputs = x[first : first + arguments.batch]
    for model, _ in students:
        model(inputs)


step = forward if arguments.forward else train
rounds = samples // arguments.batch
for i in range(10):
    step(i % rounds * arguments.batch)
done = 0
clock = time.process_time if arguments.cpu_time else time.perf_counter
start = clock()
while True:
    step(done % rounds * arguments.batch)
    done += 1
    elapsed = clock() - start
    if elapsed >= arguments.seconds:
        break
print(
    json.dumps(
        {
            "steps_per_second": done * arguments.students / elapsed,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
    )
)
