"""What tests of the commands share."""

import json
import os

from precision_tool.workspace import Workspace


def new_workspace(folder):
    """A workspace in `folder` that has the folders of an NPU run and of golden tensors."""
    workspace = Workspace(str(folder / 'precision_data'))
    for path in (workspace.npu_dump(), workspace.npu_graph(), workspace.tf_dump):
        os.makedirs(path)
    return workspace


def json_answers(run):
    """Function that runs a command with --json and returns (exit status, answer)."""
    def command(*words):
        done = run('precision_tool/cli.py', '--json', *words)
        assert done.out, done.err
        return done.status, json.loads(done.out)
    return command
