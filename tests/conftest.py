"""Shared fixtures: toy data, a trained experiment, and two ways to run a command."""

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / 'tests' / 'golden'
FAKES = ROOT / 'tests' / 'fakes'
# As in the commands that tests run in this process, where it counts when TensorFlow is imported.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

# The smallest network with all its parts, which is built in a second.
SMALL = ['--img_size', '32', '--enc_dim', '4', '--dec_dim', '4', '--stu_dim', '4', '--dis_dim', '4',
         '--enc_layers', '2', '--dec_layers', '2', '--stu_layers', '1', '--dis_layers', '2',
         '--inject_layers', '1', '--stu_inject_layers', '1', '--shortcut_layers', '1',
         '--dis_fc_dim', '8', '--batch_size', '4', '--n_d', '2', '--n_sample', '3',
         '--device', 'cpu', '--threads', '2']
EXPERIMENT = 'toy'

Finished = namedtuple('Finished', 'status out err')


@pytest.fixture(scope='session', autouse=True)
def no_bytecode():
    """Keep the checkout clean: child processes write no __pycache__ either."""
    os.environ['PYTHONDONTWRITEBYTECODE'] = '1'


@pytest.fixture(autouse=True)
def environment():
    """What commands that run in this process set for it is not there for the tests that follow."""
    with mock.patch.dict(os.environ):
        yield


def run_cli(script, *arguments, cwd):
    """Run a command of the checkout in a process of its own."""
    done = subprocess.run([sys.executable, str(ROOT / script), *map(str, arguments)], cwd=str(cwd),
                          capture_output=True, text=True)
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run a command's script as __main__ in this process, in tmp_path: TensorFlow loads once."""
    def run_script(script, *arguments):
        monkeypatch.chdir(tmp_path)
        # As in a new process: the script's folder comes first.
        monkeypatch.setattr(sys, 'path', [str((ROOT / script).parent), *sys.path])
        monkeypatch.delitem(sys.modules, '_checkout', raising=False)
        monkeypatch.setattr(sys, 'argv', [str(ROOT / script), *map(str, arguments)])
        capfd.readouterr()
        status = 0
        try:
            runpy.run_path(sys.argv[0], run_name='__main__')
        except SystemExit as end:
            status = end.code or 0
        return Finished(status, *capfd.readouterr())
    return run_script


@pytest.fixture(scope='session')
def toy_data(tmp_path_factory):
    """A toy CelebA of 60 images: 50 train, 2 val, 8 test or so."""
    folder = tmp_path_factory.mktemp('data') / 'toy'
    done = run_cli('scripts/toy/make_toy_celeba.py', folder, '--images', 60, '--processes', 1,
                   cwd=folder.parent)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope='session')
def trained(tmp_path_factory, toy_data):
    """A working directory with output/toy, trained by the command for three epochs.

    Shared by all tests: look, or take a copy with the fixture `workspace`.
    """
    folder = tmp_path_factory.mktemp('trained')
    done = run_cli('train.py', '--experiment_name', EXPERIMENT, '--dataroot', toy_data, *SMALL,
                   '--epoch', 3, '--num_ckpt', 2, '--lr', 0.002, cwd=folder)
    assert done.status == 0, done.err
    (folder / 'stdout.txt').write_text(done.out)
    return folder


@pytest.fixture
def workspace(tmp_path, trained):
    """tmp_path with a copy of the trained experiment in output/toy."""
    shutil.copytree(str(trained / 'output'), str(tmp_path / 'output'))
    return tmp_path


@pytest.fixture
def published_run(tmp_path):
    """tmp_path with an experiment folder and data as the published code leaves them."""
    shutil.copytree(str(GOLDEN / 'reference_run' / 'output'), str(tmp_path / 'output'))
    shutil.copytree(str(GOLDEN / 'reference_run' / 'celeba'), str(tmp_path / 'celeba'))
    return tmp_path


@pytest.fixture
def fake(monkeypatch):
    """A function that puts the adapter for this TensorFlow in place; returns its recorder."""
    from tflib import npu, tf

    recorders = []

    def activate(version='r1.15', **switches):
        monkeypatch.setenv('FAKE_NPU_VERSION', version)
        for name, value in switches.items():
            monkeypatch.setenv(f'FAKE_NPU_{name}', value)
        monkeypatch.setattr(npu, '_configured', {})
        monkeypatch.syspath_prepend(str(FAKES))
        adapter = 'npu_bridge_path' if tf.__version__.startswith('1.') else 'npu_device_path'
        monkeypatch.syspath_prepend(str(FAKES / adapter))
        from fake_npu import recorder

        recorder.reset()
        recorders.append(recorder)
        return recorder
    yield activate
    for recorder in recorders:
        recorder.reset()


@pytest.fixture
def read_only():
    """An empty folder that this process may not write to, not even as root."""
    folder, user = Path(tempfile.mkdtemp()), os.geteuid()
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.rmdir()


@pytest.fixture(scope='session')
def golden_folder():
    """Arrays and runs computed with the published code, or on another TensorFlow."""
    return GOLDEN
