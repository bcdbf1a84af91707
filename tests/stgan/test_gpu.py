"""What only a GPU can show; `make test-gpu` runs it on a machine that has one."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, SMALL, run_cli
from test_golden import NETWORKS, Golden

from stgan import data
from stgan.attributes import DEFAULT_ATTRIBUTES
from stgan.celeba import CelebA
from stgan.editing import EditGraph, Editor
from stgan.models import GENERATOR_SCOPES
from tflib import checkpoint, faults, layers, quiet_native_code, tf, utils

with quiet_native_code():
    GPUS = tf.config.experimental.list_physical_devices('GPU')
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason='TensorFlow sees no GPU')]

ON_GPU = ['gpu' if word == 'cpu' else word for word in SMALL]
# Of golden arrays, relative to their largest value. TF32 leaves single gradients of G far off.
TOLERANCES = {'high': {'out/': 1e-4, 'd_grad/': 1e-3, 'g_grad/': 1e-3},
              'tf32': {'out/': 1e-2, 'd_grad/': 5e-2}}


@pytest.mark.parametrize('precision', sorted(TOLERANCES))
@pytest.mark.parametrize('name', NETWORKS)
def test_golden_arrays(name, precision):
    with layers.sums_by_rows():
        golden = Golden(name, 'gpu', precision)
    for prefix, tolerance in TOLERANCES[precision].items():
        errors = {key: golden.error(key) for key in golden.wanted if key.startswith(prefix)}
        worst = max(errors, key=errors.get)
        assert errors[worst] <= tolerance, worst


@pytest.mark.parametrize('precision, tolerance', [('high', 1e-4), ('tf32', 2e-2), ('mixed', 2e-2)])
def test_an_editor_edits_as_the_plain_network_on_the_cpu(golden_folder, precision, tolerance):
    folder = str(golden_folder / 'current_run')
    with Editor(folder, 'gpu', precision) as editor:
        size, count = editor.config.img_size, editor.config.n_att
        random = np.random.RandomState(0)
        images = random.uniform(-1, 1, [3, size, size, 3]).astype(np.float32)
        targets = random.choice([-.5, .5], [3, 4, count])
        sources = random.choice([-.5, .5], [3, count])
        edited = editor.edit_batch(images, targets, sources)
        with tf.Graph().as_default(), utils.session() as session:
            plain = EditGraph(editor.config)
            checkpoint.restore(session, editor.checkpoint, tf.global_variables(), GENERATOR_SCOPES)
            wanted = plain.run(session, images, targets, sources)
    assert np.abs(edited - wanted).max() <= tolerance


def test_batches_are_copied_ahead_and_stay_those_of_the_cpu(tmp_path, toy_data):
    """After seeking, and with an image that cannot be read."""
    copy = tmp_path / 'toy'
    subprocess.run(['cp', '-r', str(toy_data), str(copy)], check=True)
    celeba = CelebA(str(copy), DEFAULT_ATTRIBUTES)
    indices = celeba.part('train')

    def batches(device):
        with tf.Graph().as_default(), utils.session(device) as session:
            source = data.TrainingBatches(celeba, indices, 32, 4, 0, .5, device)
            assert device.upper() in source.batch.xa.device
            seen = []
            for first in (0, 1):
                source.seek(session, first)
                for number in range(first, first + 3):
                    try:
                        seen.append(session.run(list(source.batch)))
                    except tf.errors.OpError as error:
                        assert faults.is_of_reading(error)
                        source.recover(session, number, error)
                        seen.append(session.run(list(source.batch)))
        return [array for batch in seen for array in batch]
    for broken in (False, True):
        if broken:
            with open(celeba.paths(indices)[0], 'wb') as file:
                file.write(b'no image')
        for cpu, gpu in zip(batches('cpu'), batches('gpu')):
            np.testing.assert_array_equal(cpu, gpu)


def losses(folder):
    lines = (folder / 'metrics.jsonl').read_text().splitlines()
    return [[value for name, value in json.loads(line).items() if 'loss' in name]
            for line in lines]


@pytest.mark.parametrize('precision', ['high', 'mixed'])
def test_training_resumes(tmp_path, toy_data, precision):
    """Not bitwise: sums on GPUs have no fixed order."""
    common = ['--dataroot', toy_data, *ON_GPU, '--precision', precision, '--lr', '0.00002']
    for name, epochs in (('whole', [2]), ('parts', [1, 2])):
        for epoch in epochs:
            done = run_cli('train.py', '--experiment_name', name, '--epoch', epoch, *common,
                           cwd=tmp_path)
            assert done.status == 0, done.err
            assert 'device      GPU' in done.out
    whole, parts = (losses(tmp_path / 'output' / name) for name in ('whole', 'parts'))
    assert len(whole) == len(parts) > 4
    if precision == 'high':
        np.testing.assert_allclose(whole, parts, rtol=.05, atol=.05)
    assert np.isfinite(whole[-1]).all()


# Runs a command, then says how much of the GPU's memory is in use.
WATCHED = """
import os, runpy, subprocess, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit as end:
    assert not end.code, end.code
subprocess.run(['nvidia-smi', '--query-gpu=memory.used', '--format=csv,noheader,nounits'])
"""


@pytest.mark.parametrize('device', ['gpu', 'cpu'])
def test_training_takes_only_the_memory_it_needs(tmp_path, toy_data, device):
    """All of it, without growth; and none for a run on the CPU."""
    options = ON_GPU if device == 'gpu' else SMALL
    before = gpu_memory()
    done = subprocess.run(
        [sys.executable, '-c', WATCHED, str(ROOT / 'train.py'), '--dataroot', str(toy_data),
         '--experiment_name', device, '--epoch', '1', *options],
        cwd=str(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = int(done.stdout.split()[-1]) - before
    assert used < (4000 if device == 'gpu' else 100)


def gpu_memory():
    """MB of the first GPU that are in use."""
    return int(subprocess.run(['nvidia-smi', '--query-gpu=memory.used',
                               '--format=csv,noheader,nounits'],
                              capture_output=True, text=True).stdout.split()[0])
