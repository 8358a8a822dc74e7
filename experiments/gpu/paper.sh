#!/bin/sh
# Figure 1 (left) and Figure 2 at the paper's scale on a GPU, in one command: devices, self-test, speed, then teacher, students,
# correlations, claims and report for the seeds given (default 1 2 3). Interrupted, it goes on when called again.
# CURRICLE names a binary built elsewhere, DEVICE another device than the first hardware GPU.
#   experiments/gpu/paper.sh OUT [SEED...]
set -eu
out=${1:?give a folder for the results: experiments/gpu/paper.sh OUT [SEED...]}
shift
[ $# -gt 0 ] || set -- 1 2 3
seeds=$(echo "$*" | tr ' ' ',')
device=${DEVICE:-gpu}
if [ -z "${CURRICLE:-}" ]; then
	make setup
	cargo build --release --locked
	CURRICLE=./target/release/curricle
fi
mkdir -p "$out"
"$CURRICLE" devices --self-test --device "$device" --json > "$out/devices.json"
"$CURRICLE" bench --device "$device" ${PYTORCH:+--pytorch "$PYTORCH"} --output "$out/bench-devices.json"
"$CURRICLE" run experiments/parity-mlp/paper.toml --device "$device" --seeds "$seeds" --resume --out "$out/runs"
