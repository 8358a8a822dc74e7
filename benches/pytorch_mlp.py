"""The other side of `curricle bench --pytorch PYTHON`: the same training in PyTorch, written the plain way.

Prints one JSON object: {"steps_per_second", "torch", "threads", "device"}; several students are trained in turn in one loop, and
their steps summed. Eager on the CPU, or with --cuda eager or, with --graph, one replayed CUDA graph of a step.
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
parser.add_argument("--cuda", action="store_true", help="on the first CUDA device")
parser.add_argument("--graph", action="store_true", help="replay a CUDA graph of one step instead of launching its kernels")
arguments = parser.parse_args()
device = torch.device("cuda" if arguments.cuda else "cpu")

torch.set_num_threads(arguments.threads)
torch.manual_seed(0)
# Fitted samples have denormal gradients, which would slow PyTorch down a hundredfold; ours does not suffer from them.
torch.set_flush_denormal(True)
samples = max(2048, 4 * arguments.batch)
x = torch.randint(0, 2, (samples, arguments.d)).float() * 2 - 1
y = (x[:, : min(6, arguments.d)].prod(dim=1) < 0).long()
x, y = x.to(device), y.to(device)
loss_function = torch.nn.CrossEntropyLoss()
students = []
for _ in range(arguments.students):
    model = torch.nn.Sequential(
        torch.nn.Linear(arguments.d, arguments.width), torch.nn.ReLU(), torch.nn.Linear(arguments.width, 2)
    )
    model = model.to(device)
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


def graphed(train):
    """The step on fixed buffers, recorded once; each call copies its batch in and replays it."""
    inputs, labels = x[: arguments.batch].clone(), y[: arguments.batch].clone()

    def record():
        for model, optimizer in students:
            optimizer.zero_grad(set_to_none=False)
            loss_function(model(inputs), labels).backward()
            optimizer.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            record()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        record()

    def step(first):
        inputs.copy_(x[first : first + arguments.batch])
        labels.copy_(y[first : first + arguments.batch])
        graph.replay()

    return step


step = forward if arguments.forward else graphed(train) if arguments.graph else train
synchronize = torch.cuda.synchronize if arguments.cuda else lambda: None
rounds = samples // arguments.batch
for i in range(10):
    step(i % rounds * arguments.batch)
synchronize()
done = 0
clock = time.process_time if arguments.cpu_time else time.perf_counter
start = clock()
while True:
    step(done % rounds * arguments.batch)
    done += 1
    if arguments.cuda and done % 256:
        continue
    synchronize()
    elapsed = clock() - start
    if elapsed >= arguments.seconds:
        break
print(
    json.dumps(
        {
            "steps_per_second": done * arguments.students / elapsed,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if arguments.cuda else "cpu",
        }
    )
)
