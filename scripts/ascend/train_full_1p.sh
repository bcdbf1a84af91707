#!/usr/bin/env bash
# Train to the end on one NPU, then measure what the model can do.
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" full 1 "$@"
