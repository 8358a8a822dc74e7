#!/bin/sh
# One command for whoever has another GPU: tests every kernel on it and measures its speed.
# Writes gpu-self-test.json and bench-devices.json here; please attach both to an issue.
set -eu
cargo build --release --features gpu
./target/release/curricle devices --self-test --json > gpu-self-test.json
./target/release/curricle bench --all-devices --output bench-devices.json
