"""The training graph and the loop: separation, repeatability, failing."""

import dataclasses

import numpy as np
import pytest

from pylib import RunFailed, read_json_lines
from stgan import data, training
from stgan.config import RunConfig
from tflib import checkpoint, tf, utils

CONFIG = RunConfig(img_size=32, enc_dim=4, dec_dim=4, stu_dim=4, dis_dim=4, dis_fc_dim=8,
                   dis_layers=4, batch_size=4, n_d=2, epoch=2, lr=.002, n_sample=2, device='cpu',
                   threads=2, experiment_name='run', save_freq=2)


def config_for(toy_data, **changes):
    return dataclasses.replace(CONFIG, dataroot=str(toy_data), **changes).check()


def built(config):
    """(graph, batches) in the current default graph."""
    celeba = data.CelebA(config.dataroot, config.atts, config.split)
    batches = data.TrainingBatches(celeba, celeba.part('train'), config.img_size,
                                   config.batch_size, config.seed)
    return training.build(config, batches.batch), batches


def assert_equal(left, right):
    assert set(left) == set(right)
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


def operations(*fetches):
    """Names of the operations that a run of `fetches` executes."""
    names = [fetch.op.name if isinstance(fetch, tf.Tensor) else fetch.name for fetch in fetches]
    definition = tf.get_default_graph().as_graph_def()
    return [node.name for node in tf.graph_util.extract_sub_graph(definition, names).node]


def test_d_update_computes_nothing_that_only_g_needs(toy_data):
    with tf.Graph().as_default():
        graph, _ = built(config_for(toy_data))
        d_step, g_step = graph.updates[0], graph.updates[-1]
        d_operations = operations(d_step.op, *d_step.terms.values())
        g_operations = operations(g_step.op, *g_step.terms.values())
    assert not [name for name in d_operations if name.startswith('G_loss')]
    assert not [name for name in d_operations if 'reconstruction' in name]
    assert not [name for name in g_operations if name.startswith('D_loss')]
    assert not [name for name in g_operations if 'gradient_penalty' in name]
    assert [name for name in d_operations if 'gradient_penalty' in name]


def test_every_variable_has_one_optimizer(toy_data):
    with tf.Graph().as_default():
        graph, _ = built(config_for(toy_data))
        names = {v.op.name for v in tf.global_variables()}
        weights = {v.op.name for v in tf.trainable_variables()}
    assert weights == {name[:-len('/Adam')] for name in names if name.endswith('/Adam')}
    others = {name for name in names - weights
              if 'moving_' not in name and not name.endswith(('/Adam', '/Adam_1'))}
    assert others == {'counter/counter', 'beta1_power', 'beta2_power', 'beta1_power_1',
                      'beta2_power_1'}


def test_checkpoint_names_are_the_published_ones(published_run):
    """Resuming needs them: weights, moving averages, Adam slots, counter."""
    path = checkpoint.latest(str(published_run / 'output' / 'golden' / 'checkpoints'))
    config = dataclasses.replace(RunConfig(), enc_dim=4, dec_dim=4, stu_dim=4, dis_dim=4,
                                 dis_fc_dim=16, batch_size=2)
    with tf.Graph().as_default():
        batch = data.Batch(tf.zeros([2, 128, 128, 3]), tf.zeros([2, 13], tf.int64),
                           tf.zeros([2, 13], tf.int64), tf.zeros([], tf.int64))
        graph = training.build(config, batch)
        # The run behind these files did not train the attribute head.
        slots = checkpoint.check_fits(path, tf.global_variables())
        assert len(slots) == 8 and all('/flatten_fully_connected_' in name for name in slots)
        with utils.session() as session:
            checkpoint.restore(session, path, tf.global_variables())
            assert session.run(graph.counter) == 0


def test_learning_rate_falls_to_a_tenth():
    config = RunConfig(lr=2e-4, init_epoch=100)
    rates = [training.learning_rate(config, epoch) for epoch in (0, 99, 100, 199, 200)]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 2e-5, 2e-5, 2e-6])


def test_counter_advances_with_the_last_update_only(toy_data):
    """Fault 6: the published counter advances before the step, so a failed one is skipped."""
    with tf.Graph().as_default(), utils.session() as session:
        graph, batches = built(config_for(toy_data))
        session.run(tf.global_variables_initializer())
        batches.seek(session, 0)
        for update, wanted in zip(graph.updates, (0, 0, 1)):
            session.run(update.op, {graph.learning_rate: 1e-3})
            assert session.run(graph.counter) == wanted


def test_initial_weights_depend_on_seed_and_name_only(toy_data):
    def initial(seed):
        with tf.Graph().as_default(), utils.session() as session:
            built(config_for(toy_data, seed=seed))
            session.run(tf.global_variables_initializer())
            return session.run({v.op.name: v for v in tf.trainable_variables()})
    first = initial(0)
    assert_equal(first, initial(0))
    assert (initial(1)['D/Conv/weights'] != first['D/Conv/weights']).any()
    gates = [first[f'Gstu/Conv{suffix}/weights'] for suffix in ('', '_1')]
    assert (gates[0] != gates[1]).any()


def snapshot(folder):
    return {str(path): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(
        tmp_path, monkeypatch, toy_data):
    """Fault 5: the published code saves the broken weights over the good ones and exits with 0."""
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


def test_attgan_modes_and_options_train(tmp_path, monkeypatch, toy_data):
    """Options that the golden files do not hold, run for an epoch."""
    monkeypatch.chdir(tmp_path)
    for number, options in enumerate([
            {'use_stu': False, 'shortcut_layers': 1, 'inject_layers': 1, 'mode': 'dcgan'},
            {'stu_norm': 'in', 'stu_state': 'gru', 'one_more_conv': 3, 'mode': 'lsgan'},
            {'stu_norm': 'bn', 'stu_state': 'direct', 'one_more_conv': 1, 'label': 'target',
             'multi_inputs': 5}]):
        name = f'run{number}'
        training.train(config_for(toy_data, epoch=1, experiment_name=name, **options))
        assert len(read_json_lines(f'output/{name}/metrics.jsonl')) == 4


def test_num_ckpt_counts_across_resumes(tmp_path, monkeypatch, toy_data):
    monkeypatch.chdir(tmp_path)
    for epoch in (1, 2):
        training.train(config_for(toy_data, epoch=epoch, num_ckpt=3))
    names = sorted(p.stem for p in (tmp_path / 'output/run/checkpoints').glob('*.index'))
    assert names == ['Epoch_(0)_(4of4).ckpt', 'Epoch_(1)_(2of4).ckpt', 'Epoch_(1)_(4of4).ckpt']


def test_classic_schedule_is_published(toy_data):
    schedule = training._schedule(RunConfig(), 182000, data.CelebA(str(toy_data)))
    assert (schedule.iterations, schedule.epochs) == (947, 200)
