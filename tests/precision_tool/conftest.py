"""What tests of the commands share."""

import json
import os

import pytest

from precision_tool.workspace import Workspace


@pytest.fixture
def answer(run):
    """Run a command with --json: (exit status, answer)."""
    def command(*words):
        done = run('precision_tool/cli.py', '--json', *words)
        assert done.out, done.err
        return done.status, json.loads(done.out)
    return command


@pytest.fixture
def folders(tmp_path):
    """A workspace in tmp_path that has the folders of an NPU run and of golden tensors."""
    workspace = Workspace(str(tmp_path / 'precision_data'))
    for folder in (workspace.npu_dump(), workspace.npu_graph(), workspace.tf_dump):
        os.makedirs(folder)
    return workspace
