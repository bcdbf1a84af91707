"""The fast generator equals the plain one."""

import numpy as np
import pytest

from stgan import fast, models
from stgan.config import RunConfig
from tflib import tf, utils

BASE = {'img_size': 32, 'enc_dim': 4, 'dec_dim': 4, 'stu_dim': 4, 'dis_layers': 4}


@pytest.mark.parametrize('options', [
    {}, {'stu_norm': 'bn'}, {'stu_norm': 'in'}, {'stu_state': 'gru'}, {'stu_state': 'direct'},
    {'use_stu': False}, {'use_stu': False, 'shortcut_layers': 1, 'inject_layers': 1},
    {'inject_layers': 0}, {'stu_inject_layers': 0}, {'shortcut_layers': 0}, {'multi_inputs': 3},
    {'one_more_conv': 3}, {'stu_dim': 8, 'stu_kernel_size': 1}, {'img_size': 64}], ids=str)
def test_equals_the_plain_generator(options):
    config = RunConfig(**dict(BASE, **options))
    size, random = config.img_size, np.random.RandomState(0)
    images = random.uniform(-1, 1, [2, size, size, 3]).astype(np.float32)
    labels = random.uniform(-1, 1, [2, 3, config.n_att]).astype(np.float32)
    with tf.Graph().as_default(), utils.session() as session:
        zs = models.encode(config, tf.constant(images), is_training=False)
        zs = [tf.gather(z, [0, 0, 0, 1, 1, 1]) for z in zs]
        plain = models.decode(config, zs, tf.constant(labels.reshape(6, -1)), is_training=False)
        variables = {v.op.name: v for v in tf.global_variables()}
        # No vector, such as those of norms, may be at its neutral value.
        session.run([v.initializer for v in variables.values()], {
            v.initial_value: random.uniform(.5, 1.5, v.shape.as_list()) if v.shape.ndims == 1 else
            random.normal(scale=.1, size=v.shape.as_list()) for v in variables.values()})
        generator = fast.FastGenerator(config, variables)
        edited = generator.edit(generator.features(tf.constant(images)), tf.constant(labels))
        session.run(tf.local_variables_initializer())
        expected, result = session.run([plain, edited])
    assert expected.std() > .01
    np.testing.assert_allclose(result, expected, atol=1e-5)
