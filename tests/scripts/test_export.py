"""The exported generator: the Editor's results, inputs and output as promised, no variables."""

import numpy as np
import pytest
from exported import EXPORT, FEEDS, infer, load, set_label

from stgan import attributes
from stgan.editing import Editor
from tflib import tf


def edits(config, count=3):
    """Random (images [N,32,32,3], targets [N,n_att], sources [N,n_att])."""
    random = np.random.RandomState(0)
    labels = random.randint(0, 2, [count, config.n_att])
    targets = attributes.single_targets(labels, config.atts, config.thres_int, 2.)[:, 1]
    return (random.uniform(-1, 1, [count, 32, 32, 3]).astype(np.float32), targets,
            attributes.signed(labels, config.thres_int))


@pytest.mark.parametrize('label', ['diff', 'target'])
def test_same_as_editor(run, workspace, label):
    experiment = workspace / 'output' / 'toy'
    set_label(workspace, label)
    done = run(*EXPORT)
    assert done.status == 0, done.err
    with Editor(str(experiment), device='cpu') as editor:
        images, targets, sources = edits(editor.config)
        wanted = editor.edit_batch(images, targets[:, np.newaxis], sources)[:, 0]
    same, other_source = infer(experiment / 'toy.pb', [(images, targets, sources),
                                                       (images, targets, -sources)])
    np.testing.assert_allclose(same, wanted, atol=1e-5)
    # All three inputs can be given in both cases, but the target label alone ignores the third.
    assert np.allclose(other_source, same, atol=1e-6) == (label == 'target')


@pytest.mark.parametrize('arguments, batch', [([], None), (['--batch_size', 1], 1)])
@pytest.mark.parametrize('label', ['diff', 'target'])
def test_interface(run, workspace, label, arguments, batch):
    set_label(workspace, label)
    done = run(*EXPORT, '--output', 'models/faces.pb', *arguments)
    assert done.status == 0, done.err
    assert [path.name for path in (workspace / 'models').iterdir()] == ['faces.pb']
    definition = load(workspace / 'models' / 'faces.pb')
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name='')
        shapes = {name: graph.get_tensor_by_name(name).shape.as_list()
                  for name in (*FEEDS, 'output:0')}
        assert all(graph.get_tensor_by_name(name).dtype == tf.float32 for name in shapes)
    image, labels = [batch, 32, 32, 3], [batch, 13]
    assert shapes == {'input1:0': image, 'input2:0': labels, 'input3:0': labels,
                      'output:0': image}
    kinds = {node.op for node in definition.node}
    assert not [kind for kind in kinds if 'Variable' in kind or 'VarHandle' in kind]
    assert [node.name for node in definition.node if node.op == 'Placeholder'] == [
        'input1', 'input2', 'input3']
    # Converters look at data, so every input needs a reader of its data.
    readers = {name for node in definition.node for name in node.input}
    assert {'input1', 'input2', 'input3'} <= readers
    assert ('Shape' in kinds) == (batch is None)
    number = '-1' if batch is None else '1'
    assert (f'input_shape  input1:{number},32,32,3;input2:{number},13;input3:{number},13'
            in done.out.splitlines())
    assert 'wrote models/faces.pb (' in done.out


def test_no_attributes_that_tensorflow_1_15_refuses(run, workspace):
    assert run(*EXPORT).status == 0
    definition = load(workspace / 'output' / 'toy' / 'toy.pb')
    norms = [set(node.attr) for node in definition.node if node.op == 'FusedBatchNormV3']
    assert norms and all(
        norm == {'T', 'U', 'data_format', 'epsilon', 'is_training'} for norm in norms)
    assert definition.versions.producer >= 134  # what TensorFlow 1.15 writes


def test_bad_input(run, workspace):
    experiment = workspace / 'output' / 'toy'
    (experiment / 'checkpoints').rename(experiment / 'elsewhere')
    before = sorted(workspace.rglob('*'))
    for arguments, message in (
            (['--experiment_name', 'nobody'], 'error: output/nobody: no such experiment'),
            (['--format', 'h5'], "argument --format: invalid choice: 'h5'"),
            (['--batch_size', 0], '--batch_size 0: expected at least 1'),
            (['--output', 'output'], 'error: --output output: is a folder'),
            ([], 'error: output/toy/checkpoints: no checkpoint')):
        done = run(*EXPORT, *arguments)
        assert done.status == 2 and message in done.err and done.err.count('\n') == 1, done.err
    assert sorted(workspace.rglob('*')) == before
