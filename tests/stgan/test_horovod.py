"""Training under horovodrun, as `make test-horovod` runs it: two processes on this machine."""

import dataclasses
import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from test_distributed import CONFIG, flags, joint, require_equal, require_near, stored, values

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('horovod') is None,
    reason='Horovod is not installed: make test-horovod builds it, for TensorFlow 1.15')


def horovodrun(config, *words):
    """Train with two processes; returns (exit status, output with errors)."""
    process = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), 'horovodrun'), '-np', '2', '--gloo',
         sys.executable, *words, *flags(config)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
    return process.returncode, process.stdout


@pytest.fixture
def config(tmp_path, monkeypatch, toy_data):
    monkeypatch.chdir(tmp_path)
    return dataclasses.replace(CONFIG, dataroot=str(toy_data), threads=2)


def test_two_processes_train_as_one_with_their_joint_batch(config):
    config = dataclasses.replace(config, sync_bn=True)
    status, out = horovodrun(config, str(ROOT / 'tests' / 'distributed_worker.py'), '.')
    assert status == 0, out
    dumps = [values(f'{rank}-4.npz') for rank in range(2)]
    require_equal(*dumps)
    require_near(stored(joint(config)), dumps[0])
    assert 'an update takes 2 x 4 = 8 images' in out


def test_bad_input_ends_all_with_one_line(config):
    config = dataclasses.replace(config, dataroot='nowhere')
    status, out = horovodrun(config, str(ROOT / 'train.py'))
    # Lines without a mark are horovodrun's own.
    said = [line.partition(']<stderr>:')[2] for line in out.splitlines() if line.startswith('[')]
    assert status != 0 and said
    assert all(line == 'error: --dataroot nowhere: no such folder' for line in said)
