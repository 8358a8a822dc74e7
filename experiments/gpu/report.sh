#!/bin/sh
# One command for whoever has another GPU: what it is, every kernel against the CPU engine, speed. Writes devices.json,
# bench-devices.json and its plot to gpu-report/; please attach the folder to an issue. PYTORCH=python3 adds PyTorch on CUDA.
set -eu
make setup
cargo build --release --locked
mkdir -p gpu-report
./target/release/curricle devices --self-test --json > gpu-report/devices.json
./target/release/curricle bench --all-devices ${PYTORCH:+--pytorch "$PYTORCH"} --output gpu-report/bench-devices.json
