"""The training graph: separation of D and G, variables, random draws."""

import dataclasses

import numpy as np

from stgan import data, losses
from stgan.celeba import CelebA
from stgan.config import RunConfig
from stgan.graph import build
from tflib import checkpoint, tf, utils

CONFIG = RunConfig(img_size=32, enc_dim=4, dec_dim=4, stu_dim=4, dis_dim=4, dis_fc_dim=8,
                   enc_layers=2, dec_layers=2, stu_layers=1, dis_layers=2, inject_layers=1,
                   stu_inject_layers=1, shortcut_layers=1, batch_size=4, n_d=2,
                   device='cpu', threads=2, experiment_name='run')


def config_for(toy_data, **changes):
    return dataclasses.replace(CONFIG, dataroot=str(toy_data), **changes).check()


def built(config):
    """(graph, batches) in the current default graph."""
    celeba = CelebA(config.dataroot, config.atts, config.split)
    batches = data.TrainingBatches(celeba, celeba.part('train'), config.img_size,
                                   config.batch_size, config.seed)
    return build(config, batches.batch), batches


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
        graph = build(config, batch)
        # The run behind these files did not train the attribute head.
        slots = checkpoint.check_fits(path, tf.global_variables())
        assert len(slots) == 8 and all('/flatten_fully_connected_' in name for name in slots)
        with utils.session() as session:
            checkpoint.restore(session, path, tf.global_variables())
            assert session.run(graph.counter) == 0


def test_counter_advances_with_the_last_update_only(toy_data):
    """The published counter advances before the step, so a failed one is skipped."""
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


def penalty_draws(monkeypatch, toy_data, numbers, **changes):
    """(alpha, beta) that the gradient penalty of a training graph gets for batches, by number."""
    penalty, draws = losses.gradient_penalty, []

    def gradient_penalty(critic, real, fake, alpha, beta, variance):
        draws.extend([alpha, beta])
        return penalty(critic, real, fake, alpha, beta, variance)
    monkeypatch.setattr(losses, 'gradient_penalty', gradient_penalty)
    with tf.Graph().as_default(), utils.session() as session:
        config = config_for(toy_data, **changes)
        labels, number = tf.zeros([4, 13], tf.int64), tf.placeholder(tf.int64, [])
        build(config, data.Batch(tf.zeros([4, 32, 32, 3]), labels, labels, number))
        values = [session.run(draws, {number: each}) for each in numbers]
    monkeypatch.setattr(losses, 'gradient_penalty', penalty)
    return values


def test_every_image_has_a_penalty_point_of_its_own(monkeypatch, toy_data):
    """Drawn anew for each image and batch, and the same again for the same seed and batch."""
    batches = penalty_draws(monkeypatch, toy_data, range(10))
    alpha, beta = batches[5]
    assert alpha.shape == (4, 1, 1, 1) and len(set(alpha.ravel())) == 4
    assert beta.shape == (4, 32, 32, 3) and len(set(beta.ravel())) > 10000
    assert not set(alpha.ravel()) & set(beta.ravel())
    (again,), (of_another_seed,) = (penalty_draws(monkeypatch, toy_data, [5], **changes)
                                    for changes in ({}, {'seed': 1}))
    np.testing.assert_array_equal(alpha, again[0])
    np.testing.assert_array_equal(beta, again[1])
    for others in (batches[6], of_another_seed):
        for draw, other in zip((alpha, beta), others):
            assert (draw != other).all()
    values = np.concatenate([draws[0].ravel() for draws in batches])
    assert values.min() >= 0 and values.max() < 1 and .3 < values.mean() < .7


def test_a_penalty_left_to_itself_draws_a_point_for_every_image():
    """A critic that is the square of the sum: its gradient tells where it was taken."""
    with tf.Graph().as_default(), utils.session() as session:
        points = []

        def critic(x):
            points.append(x)
            return tf.reduce_sum(tf.square(x), axis=[1, 2, 3])
        losses.gradient_penalty(critic, tf.zeros([8, 2, 2, 3]), tf.ones([8, 2, 2, 3]))
        places = session.run(points[0])
    assert (places == places[:, :1, :1, :1]).all()         # between both images
    assert len(set(places[:, 0, 0, 0])) == 8               # each at a place of its own
