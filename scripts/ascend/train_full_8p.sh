#!/usr/bin/env bash
# Train to the end on eight NPUs, or those of a rank table, then measure what the model can do.
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" full 8 "$@"
