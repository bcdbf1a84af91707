"""Exporting a generator, and running what was exported: what several tests do."""

from stgan.config import load_config
from tflib import tf, utils

FEEDS = ('input1:0', 'input2:0', 'input3:0')
EXPORT = ('scripts/export.py', '--experiment_name', 'toy', '--format', 'pb')


def load(path):
    """Return the GraphDef in a file."""
    definition = tf.GraphDef()
    with open(str(path), 'rb') as stream:
        definition.ParseFromString(stream.read())
    return definition


def infer(path, batches):
    """Yield the output of an exported network for each (images, targets, sources)."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(load(path), name='')
        with utils.session('cpu', 1, graph) as session:
            for batch in batches:
                yield session.run('output:0', dict(zip(FEEDS, batch)))


def set_label(folder, label, before='diff'):
    """Let an experiment tell its generator something else; its variables stay as they are."""
    path = folder / 'output' / 'toy' / 'setting.txt'
    text = path.read_text()
    path.write_text(text.replace(f'"label": "{before}"', f'"label": "{label}"'))
    assert load_config(str(path.parent))[0].label == label
