"""Parity with the published code, which computed tests/golden on TensorFlow 1.15.5."""

import json
from pathlib import Path

import numpy as np
import pytest

from stgan import graph, losses, models
from stgan.attributes import generator_label, signed
from stgan.config import RunConfig
from stgan.data import Batch
from stgan.editing import EditGraph
from tflib import tf, utils

GOLDEN = Path(__file__).parents[1] / 'golden'
NETWORKS = ['stgan_wgan', *(pytest.param(name, marks=pytest.mark.slow)
                            for name in ('attgan_lsgan', 'stgan_128_bn_multi'))]

OUTPUT_TOLERANCE = 1e-4     # relative
GRADIENT_TOLERANCE = 1e-3   # of the gradient's largest entry
MOVING_TOLERANCE = 1e-5     # the published order of the decoder's two updates is not fixed


class Golden:
    """A golden file, and the graph that should reproduce it, run once.

    Args:
        open_session: function of what will be run, a context like a session; loss_scale: what
            losses are multiplied by before their gradients are computed, and these divided.
    """

    def __init__(self, name, device='cpu', precision='high', open_session=None, loss_scale=1.):
        with np.load(str(GOLDEN / (name + '.npz'))) as stored:
            arrays = {key: stored[key] for key in stored.files}
        options = json.loads(str(arrays.pop('config')))
        self.alpha, self.beta = options.pop('alpha'), options.pop('beta')
        options['atts'] = tuple(f'attribute_{i}' for i in range(options['atts']))
        self.config = RunConfig(**options)
        self.inputs = {key: arrays.pop(key) for key in ('xa', 'a', 'b')}
        self.wanted = arrays
        open_session = open_session or (
            lambda fetches: utils.session(device, precision=precision))
        self.seen = self._run(open_session, loss_scale)

    def error(self, key):
        """Largest difference from a golden array, relative to its largest value."""
        wanted = self.wanted[key]
        scale = np.abs(wanted).max()
        if key == 'out/d_loss_gan':
            # A small difference of means of both logits; rounding errors go with the logits.
            scale = max(scale, np.abs(self.wanted['out/fake_gan']).max())
        return np.abs(self.seen[key] - wanted).max() / (scale + 1e-12)

    def group(self, prefix, arrays):
        return {key[len(prefix):]: value for key, value in arrays.items() if key.startswith(prefix)}

    def _run(self, open_session, loss_scale):
        with tf.Graph().as_default():
            batch = Batch(number=None, **{key: tf.constant(value)
                                          for key, value in self.inputs.items()})
            g_terms = graph.generator_terms(self.config, batch)
            d_terms = graph.discriminator_terms(self.config, batch, self.alpha, self.beta)
            edit_graph = EditGraph(self.config)
            self.variables = {v.op.name: v for v in tf.global_variables()}
            gradients = {}
            for prefix, loss, scopes in (('d_grad/', d_terms['d_loss'], ('D',)),
                                         ('g_grad/', g_terms['g_loss'],
                                          models.GENERATOR_SCOPES)):
                variables = utils.trainable_variables(*scopes)
                gradients.update({prefix + v.op.name: gradient / loss_scale for v, gradient
                                  in zip(variables, tf.gradients(loss * loss_scale, variables))})
            forward = self._forward(batch)
            fetches = g_terms, d_terms, forward, gradients, edit_graph.edited
            with open_session(fetches) as session:
                for name, value in self.group('var/', self.wanted).items():
                    self.variables[name].load(value, session)
                seen = {'out/x_infer': self._edit(edit_graph, session)}
                # Before any other training-mode run: G's own graph updates the moving averages.
                seen.update({'out/' + k: v for k, v in session.run(g_terms).items()})
                seen.update({'moved/' + name: session.run(variable)
                             for name, variable in self.variables.items() if 'moving_' in name})
                seen.update({'out/' + k: v for k, v in session.run(d_terms).items()})
                seen.update({'out/' + k: v for k, v in session.run(forward).items()})
                seen.update(session.run(gradients))
        return seen

    def _edit(self, edit_graph, session):
        source, target = (signed(self.inputs[key], self.config.thres_int) for key in 'ab')
        return edit_graph.run(session, self.inputs['xa'], target[:, np.newaxis], source)[:, 0]

    def _forward(self, batch):
        config = self.config
        source, target = (tf.constant(signed(self.inputs[key], config.thres_int)) for key in 'ab')
        zs = models.encode(config, batch.xa)
        xb = models.decode(config, zs, generator_label(config.label, source, target))
        xa_rec = models.decode(config, zs, generator_label(config.label, source, source))
        real_gan, real_att = models.discriminate(config, batch.xa)
        fake_gan, fake_att = models.discriminate(config, xb)
        return {'xb': xb, 'xa_rec': xa_rec, 'real_gan': real_gan, 'real_att': real_att,
                'fake_gan': fake_gan, 'fake_att': fake_att}


@pytest.fixture(scope='module', params=NETWORKS)
def golden(request):
    return Golden(request.param)


def test_variable_names_and_shapes(golden):
    stored = golden.group('var/', golden.wanted)
    wanted = {name: list(value.shape) for name, value in stored.items()}
    assert {name: v.shape.as_list() for name, v in golden.variables.items()} == wanted


def test_every_golden_array_is_compared(golden):
    assert set(golden.seen) == {key for key in golden.wanted if not key.startswith('var/')}


@pytest.mark.parametrize('prefix, tolerance', [('out/', OUTPUT_TOLERANCE),
                                               ('d_grad/', GRADIENT_TOLERANCE),
                                               ('g_grad/', GRADIENT_TOLERANCE)])
def test_values(golden, prefix, tolerance):
    for name in golden.group(prefix, golden.wanted):
        assert golden.error(prefix + name) <= tolerance, name


def test_moving_averages(golden):
    for name, wanted in golden.group('moved/', golden.wanted).items():
        np.testing.assert_allclose(golden.seen['moved/' + name], wanted, rtol=0,
                                   atol=MOVING_TOLERANCE, err_msg=name)


def test_penalty_has_a_gradient_where_the_critic_is_constant():
    """Without an epsilon under the norm this is NaN."""
    with tf.Graph().as_default(), utils.session() as session:
        slope = tf.get_variable('slope', [], tf.float32, tf.zeros_initializer())
        real = tf.random_uniform([2, 4, 4, 3])
        penalty = losses.gradient_penalty(
            lambda x: slope * tf.reduce_sum(x, axis=[1, 2, 3])[:, tf.newaxis], real, real / 2)
        session.run(tf.global_variables_initializer())
        value, gradient = session.run([penalty, tf.gradients(penalty, slope)[0]])
    assert value == pytest.approx(1, abs=1e-4)
    assert np.isfinite(gradient)
