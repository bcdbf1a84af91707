"""Export an experiment's generator for inference.

--format pb: a frozen TensorFlow graph (binary GraphDef, weights included), all float32, S the
experiment's img_size:

    input1  [N,S,S,3]    images in [-1,1]
    input2  [N,n_att]    signed target labels: -thres_int off, thres_int on,
                         both times the intensity
    input3  [N,n_att]    signed source labels
    output  [N,S,S,3]    edited images in [-1,1]

--format ckpt writes an experiment folder for test.py and the like instead, with a slim checkpoint:
the generator's weights without what training needs.

Examples:
    python scripts/export.py --experiment_name 128
    python scripts/export.py --experiment_name 128 --batch_size 1
    python scripts/export.py --experiment_name 128 --format ckpt \\
        --output models/128
"""

import os
import shlex

if not __package__:
    import _checkout

from pylib import (
    ArgumentParser,
    UserError,
    atomic_folder,
    atomic_path,
    require_new_folder,
    run_command,
)
from stgan import attributes
from stgan.config import CHECKPOINTS, EXPERIMENT, experiment_folder, load_config

INPUTS, OUTPUT = ('input1', 'input2', 'input3'), 'output'

# Attributes of these networks' operations that TensorFlow 1.15, and with it converters such as ATC,
# does not know and refuses. All have their default value. Defaults that it knows stay: converters
# may not fill them in.
NEWER_ATTRIBUTES = ('exponential_avg_factor',)


def input_shapes(config, batch_size):
    """Shapes of the three inputs as lists, by name; batch_size None: dynamic."""
    size, labels = config.img_size, [batch_size, config.n_att]
    return dict(zip(INPUTS, ([batch_size, size, size, 3], labels, labels)))


def add_generator(config, batch_size):
    """Add inputs, generator in inference mode and output (see above) to the current graph."""
    from stgan import models
    from tflib import tf
    image, target, source = (tf.placeholder(tf.float32, shape, name) for name, shape
                             in input_shapes(config, batch_size).items())
    label = attributes.generator_label(config.label, source, target)
    if config.label == 'target':
        # Converters drop inputs that no data flow from; whoever runs the model gives all three.
        label = tf.concat([label, source], axis=1)[:, :config.n_att]
    zs = models.encode(config, image, is_training=False)
    tf.identity(models.decode(config, zs, label, is_training=False), OUTPUT)


def freeze(config, checkpoint_path, batch_size=None):
    """Return the generator as a GraphDef whose weights are constants.

    Args:
        config: the experiment's `RunConfig`.
        checkpoint_path: path prefix of its weights.
        batch_size: N of inputs and output; None: dynamic.
    """
    from stgan.models import GENERATOR_SCOPES
    from tflib import checkpoint, tf, utils
    with tf.Graph().as_default() as graph:
        add_generator(config, batch_size)
        with utils.session('cpu', graph=graph) as session:
            checkpoint.restore(session, checkpoint_path, tf.global_variables(), GENERATOR_SCOPES)
            network = graph.as_graph_def()
            frozen = tf.graph_util.convert_variables_to_constants(session, network, [OUTPUT])
    # Without it the graph would count as one of the oldest TensorFlow.
    frozen.versions.CopyFrom(network.versions)
    for node in frozen.node:
        for name in NEWER_ATTRIBUTES:
            node.attr.pop(name, None)
    return frozen


def describe(config, path, batch_size):
    """Print what was exported."""
    shapes = input_shapes(config, batch_size)
    for name, shape in list(shapes.items()) + [(OUTPUT, shapes[INPUTS[0]])]:
        print(f'{name:<12} float32 [{",".join("N" if n is None else str(n) for n in shape)}]')
    # As ATC wants it; scripts/ascend/offline_inference.sh reads this line.
    shape_list = ';'.join(f'{name}:{",".join("-1" if n is None else str(n) for n in shape)}'
                          for name, shape in shapes.items())
    print(f'input_shape  {shape_list}')
    print(f'wrote {path} ({os.path.getsize(path) / 1e6:.1f} MB)')


def export_slim(path, config, checkpoint_path):
    """Write an experiment folder with a slim checkpoint, and say so."""
    from stgan import export
    from tflib import faults
    with faults.one_line(checkpoint_path, 'take a machine with more memory'), \
            atomic_folder(path) as temporary:
        export.write_slim(temporary, config, checkpoint_path)
    size = sum(os.path.getsize(os.path.join(below, name)) for below, _, names in os.walk(path)
               for name in names)
    print(f'wrote {path} ({size / 1e6:.1f} MB), an experiment folder: test.py '
          f'--experiment_name {experiment_argument(path)}')


def experiment_argument(path):
    """What names an experiment folder on a command line."""
    return shlex.quote(path if '/' in path else f'./{path}')


def main():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--experiment_name', required=True, help=EXPERIMENT)
    add('--format', choices=('pb', 'ckpt'), default='pb',
        help='pb: frozen TensorFlow graph; ckpt: experiment folder with a slim checkpoint')
    add('--output', metavar='PATH', help='file or folder to write; default: NAME.pb or NAME_slim '
        'in the experiment folder')
    add('--batch_size', type=int, help='fixed number of images, as NPUs want; default: any number')
    args = parser.parse_args()
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f'--batch_size {args.batch_size}: expected at least 1')
    if args.batch_size and args.format != 'pb':
        parser.error(f'--batch_size: has no effect with --format {args.format}')
    folder = experiment_folder(args.experiment_name)
    config, _ = load_config(folder)
    is_folder = args.format == 'ckpt'
    path = args.output or os.path.join(folder, config.experiment_name
                                       + ('_slim' if is_folder else '.pb'))
    if is_folder:
        path = os.path.normpath(path)
        require_new_folder(path, '--output')
    elif os.path.isdir(path):
        raise UserError(f'--output {path}: is a folder, expected a file name')

    from tflib import checkpoint, faults
    checkpoint_path = checkpoint.require_latest(os.path.join(folder, CHECKPOINTS))
    if is_folder:
        export_slim(path, config, checkpoint_path)
        return
    with faults.one_line(checkpoint_path, 'free some, or take a machine with more'):
        graph = freeze(config, checkpoint_path, args.batch_size)
    with atomic_path(path) as temporary, open(temporary, 'wb') as stream:
        stream.write(graph.SerializeToString())
    describe(config, path, args.batch_size)


if __name__ == '__main__':
    run_command(main)
