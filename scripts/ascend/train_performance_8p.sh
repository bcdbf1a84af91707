#!/usr/bin/env bash
# Train for 100 iterations on eight NPUs, or those of a rank table, to measure how fast that is.
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" performance 8 "$@"
