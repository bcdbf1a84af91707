"""Slim experiment folders: made, edited with, trained from; experiments named by their paths."""

import shutil

import numpy as np
import pytest
from conftest import SMALL

import imlib
from pylib import read_json
from stgan.editing import Editor
from tflib import tf

SLIM = ('scripts/export.py', '--experiment_name', 'output/toy', '--format', 'ckpt', '--output')


def values(folder):
    """{variable: array} of the newest checkpoint in an experiment folder."""
    reader = tf.train.NewCheckpointReader(tf.train.latest_checkpoint(str(folder / 'checkpoints')))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture
def slim(run, workspace):
    """tmp_path with models/toy beside output/toy."""
    done = run(*SLIM, 'models/toy/')
    assert done.status == 0, done.err
    assert 'wrote models/toy (' in done.out and 'test.py --experiment_name models/toy' in done.out
    return workspace


def test_holds_the_generator_only(slim):
    full, kept = values(slim / 'output' / 'toy'), values(slim / 'models' / 'toy')
    # Weights, beta, gamma and the two moving averages; one name more is an optimizer's.
    wanted = {name for name in full if name.split('/')[0] in ('Genc', 'Gstu', 'Gdec')
              and name.split('/')[-1] in ('weights', 'biases', 'beta', 'gamma', 'moving_mean',
                                          'moving_variance')}
    assert len(wanted) == 25 and set(kept) == wanted
    for name, value in kept.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, full[name])
    models = slim / 'models'
    names = sorted(str(path.relative_to(models)) for path in models.rglob('*.*'))
    assert names == ['toy/checkpoints/Epoch_(2)_(4of4).ckpt.data-00000-of-00001',
                     'toy/checkpoints/Epoch_(2)_(4of4).ckpt.index', 'toy/setting.txt']
    setting = read_json(str(slim / 'models' / 'toy' / 'setting.txt'))
    assert setting == read_json(str(slim / 'output' / 'toy' / 'setting.txt'))


@pytest.mark.slow
def test_edits_alike(run, slim):
    image = np.random.RandomState(0).uniform(-1, 1, [32, 32, 3]).astype(np.float32)
    results = []
    for folder in ('output', 'models'):
        with Editor(str(slim / folder / 'toy'), device='cpu') as editor:
            results.append(editor.edit(image, np.eye(13)))
        done = run('test.py', '--experiment_name', f'./{folder}/toy', '--img', 60, '--test_int', 2)
        assert done.status == 0, done.err
    assert results[0].std() > .01
    np.testing.assert_allclose(*results, atol=1e-6)
    sheets = [imlib.read(str(slim / folder / 'toy' / 'sample_testing' / '000060.png'))
              for folder in ('output', 'models')]
    np.testing.assert_array_equal(*sheets)
    done = run('psnr_ssim.py', '--experiment_name', str(slim / 'models' / 'toy'))
    assert done.status == 0, done.err
    assert (slim / 'models' / 'toy' / 'psnr_ssim.json').exists()
    # And the experiment at a path is exported as one below output/ is.
    done = run('scripts/export.py', '--experiment_name', 'models/toy')
    assert done.status == 0 and (slim / 'models' / 'toy' / 'toy.pb').exists(), done.err


@pytest.mark.slow
def test_training_begins_from_it_but_does_not_go_on(run, slim, toy_data):
    train = ['train.py', '--dataroot', toy_data, *SMALL, '--lr', 1e-12]
    before = sorted(slim.rglob('*'))
    done = run(*train, '--epoch', 4, '--experiment_name', 'models/toy')
    assert done.status == 2 and done.err.count('\n') == 1, done.err
    assert 'models/toy: holds a slim checkpoint' in done.err
    assert '--init_checkpoint models/toy' in done.err
    assert sorted(slim.rglob('*')) == before
    done = run(*train, '--epoch', 1, '--experiment_name', 'models/tuned', '--init_checkpoint',
               'models/toy')
    assert done.status == 0, done.err
    (line,) = [line for line in done.err.splitlines() if 'warning' in line]
    assert 'holds a generator only; the discriminator starts with random weights' in line
    assert 'next: ' in done.out and '--experiment_name=models/tuned --test_int 2\n' in done.out
    assert not (slim / 'output' / 'tuned').exists()
    full, kept, tuned = (values(slim / folder) for folder in ('output/toy', 'models/toy',
                                                              'models/tuned'))
    for name, value in kept.items():
        if 'moving' not in name:
            np.testing.assert_allclose(tuned[name], value, atol=1e-6)
    assert set(tuned) == set(full)    # D and slots are there
    assert np.abs(tuned['D/Conv/weights'] - full['D/Conv/weights']).max() > 1e-3


def test_what_is_there_is_left_alone(run, workspace):
    experiment = workspace / 'output' / 'toy'
    shutil.copy(str(experiment / 'setting.txt'), str(workspace / 'file'))
    before = sorted(workspace.rglob('*'))
    for arguments, message in (
            (['output/toy'], 'error: output/toy: is there already; name another folder '
             'with --output'),
            (['file'], 'file is a file; name another folder with --output'),
            (['new', '--batch_size', 2], '--batch_size: has no effect with --format ckpt')):
        done = run(*SLIM, *arguments)
        assert done.status == 2 and message in done.err and done.err.count('\n') == 1, done.err
    for index in (experiment / 'checkpoints').glob('*.index'):
        index.write_bytes(b'')
    done = run(*SLIM, 'new')
    assert done.status == 2 and 'damaged checkpoint' in done.err, done.err
    assert sorted(workspace.rglob('*')) == before
