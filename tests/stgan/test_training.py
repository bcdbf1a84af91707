"""Runs of train.py: schedules, options, failing."""

import dataclasses
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from pylib import RunFailed, read_json_lines
from stgan import loop, training
from stgan.celeba import CelebA
from stgan.config import RunConfig
from stgan.editing import Editor
from stgan.models import GENERATOR_SCOPES
from stgan.stream import Course
from tflib import checkpoint, tf, utils

CONFIG = RunConfig(img_size=32, enc_dim=4, dec_dim=4, stu_dim=4, dis_dim=4, dis_fc_dim=8,
                   enc_layers=2, dec_layers=2, stu_layers=1, dis_layers=2, inject_layers=1,
                   stu_inject_layers=1, shortcut_layers=1,
                   batch_size=4, n_d=2, epoch=2, lr=.002, n_sample=2, device='cpu',
                   threads=2, experiment_name='run', save_freq=2)


def config_for(toy_data, **changes):
    return dataclasses.replace(CONFIG, dataroot=str(toy_data), **changes).check()


def test_learning_rate_falls_to_a_tenth():
    config = RunConfig(lr=2e-4, init_epoch=100)
    rates = [training.learning_rate(config, epoch) for epoch in (0, 99, 100, 199, 200)]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 2e-5, 2e-5, 2e-6])


@pytest.mark.slow
def test_what_xla_compiles_computes_the_same(tmp_path, toy_data):
    """Random numbers, too, which XLA by itself draws otherwise."""
    config = config_for(toy_data, epoch=1, train_image_num=24)
    words = [word for field in dataclasses.fields(config) if field.default != getattr(
        config, field.name) for word in (f'--{field.name}', str(getattr(config, field.name)))]
    logs = []
    for flag in ([], ['--xla']):
        environment = dict(os.environ)
        if flag:
            environment.update(TF_XLA_FLAGS='--tf_xla_cpu_global_jit',
                               XLA_FLAGS=f'--xla_dump_to={tmp_path / "compiled"}')
        folder = tmp_path / f'run{len(logs)}'
        folder.mkdir()
        done = subprocess.run([sys.executable, str(ROOT / 'train.py'), *words, *flag],
                              cwd=str(folder), env=environment, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr
        logs.append(read_json_lines(str(folder / 'output' / 'run' / 'metrics.jsonl')))
    assert len(os.listdir(str(tmp_path / 'compiled'))) > 5
    assert len(logs[0]) == 2
    for plain, compiled in zip(*logs):
        for name in ('d_loss', 'gp', 'd_loss_att', 'g_loss', 'g_loss_rec'):
            np.testing.assert_allclose(compiled[name], plain[name], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize('options', [
    {'mode': 'lsgan', 'stu_norm': 'bn', 'ema_decay': .5},
    pytest.param({'precision': 'mixed'}, marks=[pytest.mark.slow, pytest.mark.skipif(
        tf.__version__.startswith('1.'), reason='TensorFlow 1.15 mixes no precisions on CPUs')])],
    ids=str)
def test_several_updates_in_a_session_call_are_those_of_one_each(tmp_path, monkeypatch, toy_data,
                                                                 options):
    """In every bit, with two calls an iteration and with one, and a broken image replaced."""
    folder = tmp_path / 'data'
    shutil.copytree(str(toy_data), str(folder))
    monkeypatch.chdir(tmp_path)
    config = config_for(folder, log_images=True, max_bad_images=.1, **options)
    image = folder / 'img_align_celeba' / f'{CelebA(str(folder)).part("train")[30] + 1:06d}.jpg'
    image.write_bytes(image.read_bytes()[:300])
    calls, run = [], loop._Run._run_update
    monkeypatch.setattr(loop._Run, '_run_update', lambda self, update, *place: (
        calls.append(len(update.batches)) or run(self, update, *place)))
    found = []
    for most in (1, 2, 9):
        del calls[:]
        name = f'run{most}'
        training.train(dataclasses.replace(config, updates_per_call=most, experiment_name=name))
        assert calls == {1: 3 * [1], 2: [2, 1], 9: [3]}[most] * 8
        reader = tf.train.load_checkpoint(checkpoint.latest(f'output/{name}/checkpoints'))
        found.append(({name: reader.get_tensor(name).tobytes()
                       for name in reader.get_variable_to_shape_map()},
                      [dict(record, seconds=0)
                       for record in read_json_lines(f'output/{name}/metrics.jsonl')]))
    assert sum(record.get('replaced_images', 0) for record in found[0][1])
    assert found[1] == found[0]
    if 'precision' not in options:
        assert found[2] == found[0]
        return
    # What goes to 16 bits TensorFlow decides on all that a call computes.
    for one, others in zip(found[0][1], found[2][1]):
        for term in ('d_loss', 'g_loss'):
            np.testing.assert_allclose(others[term], one[term], rtol=.02, err_msg=term)


def snapshot(folder):
    return {str(path): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(
        tmp_path, monkeypatch, toy_data):
    """The published code saves the broken weights over the good ones and exits with 0."""
    monkeypatch.chdir(tmp_path)
    training.train(config_for(toy_data, epoch=1))
    checkpoints = tmp_path / 'output' / 'run' / 'checkpoints'
    before = snapshot(checkpoints)
    with pytest.raises(RunFailed) as error:
        training.train(config_for(toy_data, rec_loss_weight=1e300))
    assert 'iteration 5: g_loss not finite' in str(error.value)
    assert 'Epoch_(0)_(4of4).ckpt' in str(error.value)
    assert error.value.exit_status == 1
    assert snapshot(checkpoints) == before


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    with tf.Graph().as_default(), utils.session() as session:
        weight = tf.get_variable('weight', initializer=[1., 2.])
        checkpoints = checkpoint.Checkpoints(str(tmp_path), keep=1)
        session.run(tf.global_variables_initializer())
        checkpoints.save(session, 'good')
        weight.load([1., np.nan], session)
        with pytest.raises(RunFailed, match='1 variables are not finite .weight.; .*good'):
            checkpoints.save(session, 'bad')
    assert checkpoint.latest(str(tmp_path)).endswith('good')


@pytest.mark.slow
def test_attgan_modes_and_options_train(tmp_path, monkeypatch, toy_data):
    """Options that the golden files do not hold, run for an epoch."""
    monkeypatch.chdir(tmp_path)
    for number, options in enumerate([
            {'use_stu': False, 'shortcut_layers': 1, 'inject_layers': 1, 'mode': 'dcgan'},
            {'stu_norm': 'in', 'stu_state': 'gru', 'one_more_conv': 3, 'mode': 'lsgan'},
            {'stu_norm': 'bn', 'stu_state': 'direct', 'one_more_conv': 1, 'label': 'target',
             'multi_inputs': 3}]):
        name = f'run{number}'
        training.train(config_for(toy_data, epoch=1, experiment_name=name, **options))
        assert len(read_json_lines(f'output/{name}/metrics.jsonl')) == 4


@pytest.mark.slow
def test_num_ckpt_counts_across_resumes(tmp_path, monkeypatch, toy_data):
    monkeypatch.chdir(tmp_path)
    for epoch in (1, 2):
        training.train(config_for(toy_data, epoch=epoch, num_ckpt=3))
    names = sorted(p.stem for p in (tmp_path / 'output/run/checkpoints').glob('*.index'))
    assert names == ['Epoch_(0)_(4of4).ckpt', 'Epoch_(1)_(2of4).ckpt', 'Epoch_(1)_(4of4).ckpt']


def test_classic_schedule_is_published(toy_data):
    schedule = training._schedule(RunConfig(), 182000, CelebA(str(toy_data)), Course(32, 6))
    assert (schedule.iterations, schedule.epochs) == (947, 200)


def test_averaged_weights_are_kept_beside_the_weights_and_edit(tmp_path, monkeypatch, toy_data):
    """Averages in successive checkpoints, sample grids and the editor."""
    monkeypatch.chdir(tmp_path)
    config = config_for(toy_data, epoch=1, save_freq=1, sample_freq=4, num_ckpt=9, ema_decay=.15)
    compose, samples = training.sheets.compose, []
    monkeypatch.setattr(training.sheets, 'compose', lambda image, results: (
        samples.append((image, results[0].copy())) or compose(image, results)))
    training.train(config)
    with Editor('output/run', device='cpu') as editor:
        for image, reconstruction in samples:
            edited, = editor.edit(image, np.zeros([1, config.n_att]))
            np.testing.assert_allclose(edited, reconstruction, atol=1e-5)
    paths = [f'output/run/checkpoints/Epoch_(0)_({number}of4).ckpt' for number in (1, 2, 3, 4)]
    weights = [tf.train.NewCheckpointReader(path) for path in paths]
    averages = [name for name in checkpoint.variables_in(paths[0])
                if name.endswith('/ExponentialMovingAverage')]
    assert {name.split('/')[0] for name in averages} == set(GENERATOR_SCOPES)
    assert any('moving_variance' in name for name in averages)
    for name in averages:
        average = 0
        for number, stored in enumerate(weights):
            decay = min(.15, number / (number + 9))
            average = decay * average + (1 - decay) * stored.get_tensor(name.rpartition('/')[0])
            np.testing.assert_allclose(stored.get_tensor(name), average, rtol=1e-5, atol=1e-7)
    assert any(not np.array_equal(weights[-1].get_tensor(name),
                                  weights[-1].get_tensor(name.rpartition('/')[0]))
               for name in averages)
