"""Export an experiment's generator for inference.

--format writes, checked against the checkpoint:

    pb          frozen TensorFlow graph, for the converters of NPUs
    savedmodel  for TensorFlow Serving, TensorFlow 1 and 2
    onnx        for ONNX Runtime and the like; onnx-fp16: half as large
    tflite      for TensorFlow Lite (LiteRT)
    web         a page that edits photos in a browser, without a server
    ckpt        an experiment folder for test.py and Editor, with a slim
                checkpoint: the generator's weights alone

docs/export.md has inputs and outputs, and clients. Those of pb, all float32, for S the img_size:

    input1  [N,S,S,3]    images in [-1,1]
    input2  [N,n_att]    signed target labels: -thres_int off, thres_int on,
                         both times the intensity
    input3  [N,n_att]    signed source labels
    output  [N,S,S,3]    edited images in [-1,1]

Examples:
    python scripts/export.py --experiment_name 128
    python scripts/export.py --experiment_name 128 --batch_size 1
    python scripts/export.py --experiment_name 128 --format onnx
    python scripts/export.py --experiment_name 128 --format ckpt \\
        --output models/128
"""

import os
import shlex

import numpy as np

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

FORMATS = ('pb', 'savedmodel', 'onnx', 'onnx-fp16', 'tflite', 'web', 'ckpt')
FOLDERS = ('savedmodel', 'web', 'ckpt')    # formats that are folders
# Of pb.
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


def describe(config, batch_size):
    """Print the inputs and outputs of pb."""
    shapes = input_shapes(config, batch_size)
    for name, shape in list(shapes.items()) + [(OUTPUT, shapes[INPUTS[0]])]:
        print(f'{name:<12} float32 [{",".join("N" if n is None else str(n) for n in shape)}]')
    # As ATC wants it; scripts/ascend/offline_inference.sh reads this line.
    shape_list = ';'.join(f'{name}:{",".join("-1" if n is None else str(n) for n in shape)}'
                          for name, shape in shapes.items())
    print(f'input_shape  {shape_list}')


def write_pb(path, config, checkpoint_path, example, batch_size):
    """Write the published graph; return its largest error."""
    from stgan import export
    graph = freeze(config, checkpoint_path, batch_size)
    with open(path, 'wb') as stream:
        stream.write(graph.SerializeToString())
    image, source, target = (example.feeds[name] for name in export.INPUTS['labels'])
    count, edits = target.shape[:2]
    row, column = np.divmod(np.arange(batch_size or count * edits) % (count * edits), edits)
    feeds = dict(zip(INPUTS, (image[row], target[row, column], source[row])))
    found = export.run_graph(graph, f'{OUTPUT}:0',
                             {f'{name}:0': value for name, value in feeds.items()})
    return export.check('pb', np.abs(found - example.edited[row, column]))


def default_path(folder, name, format_):
    """Where an export goes if nobody says."""
    return os.path.join(folder, name + {
        'onnx-fp16': '_fp16.onnx', 'savedmodel': '_savedmodel', 'web': '_web', 'ckpt': '_slim'
    }.get(format_, f'.{format_}'))


def check_place(path, format_):
    """Raise a UserError if the export cannot be written to `path`."""
    if format_ in FOLDERS:
        require_new_folder(path, '--output')
    elif os.path.isdir(path):
        raise UserError(f'--output {path}: is a folder, expected a file name')


def write(args, path, config, checkpoint_path):
    """Write what the command line asks for to `path`; return its largest error."""
    from stgan import export
    inputs = export.inputs_of(config, args.inputs)
    runtime = export.web_runtime(args.runtime) if args.format == 'web' else None
    example = export.Example(config, checkpoint_path)
    given = config, checkpoint_path, example
    with (atomic_folder if args.format in FOLDERS else atomic_path)(path) as temporary:
        if args.format == 'pb':
            return write_pb(temporary, *given, args.batch_size)
        if args.format == 'ckpt':
            return export.write_slim(temporary, *given)
        if args.format == 'savedmodel':
            return export.write_saved_model(temporary, *given)
        if args.format == 'web':
            return export.write_web(temporary, *given, runtime)
        if args.format == 'tflite':
            return export.write_tflite(temporary, *given, inputs)
        return export.write_onnx(temporary, *given, inputs, args.format == 'onnx-fp16')


def size_of(path):
    """Bytes of a file, or of the files in a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path)
               for name in names)


def parse():
    """Return the parsed and checked command line."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--experiment_name', required=True, help=EXPERIMENT)
    add('--format', choices=FORMATS, default='pb', help='what to write, see above')
    add('--output', metavar='PATH', help='file or folder to write; default: one named after the '
        'experiment, in its folder')
    add('--inputs', choices=('difference', 'labels'), help='of onnx and tflite: image and '
        'difference, or image, source and target; default: what the generator is told')
    add('--batch_size', type=int, help='of pb: fixed number of images, as NPUs want; default: any '
        'number')
    add('--runtime', metavar='DIR', default='', help='of web: folder of the npm package '
        'onnxruntime-web; default: node_modules/onnxruntime-web')
    args = parser.parse_args()
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f'--batch_size {args.batch_size}: expected at least 1')
    for flag, formats in (('batch_size', ('pb',)), ('runtime', ('web',)),
                          ('inputs', ('onnx', 'onnx-fp16', 'tflite'))):
        if getattr(args, flag) and args.format not in formats:
            parser.error(f'--{flag}: has no effect with --format {args.format}')
    return args


def main():
    args = parse()
    folder = experiment_folder(args.experiment_name)
    config, _ = load_config(folder)
    path = os.path.normpath(args.output) if args.output else default_path(
        folder, config.experiment_name, args.format)
    check_place(path, args.format)

    from stgan.export import LIMITS
    from tflib import checkpoint, faults
    checkpoint_path = checkpoint.require_latest(os.path.join(folder, CHECKPOINTS))
    with faults.one_line(checkpoint_path, 'free some, or take a machine with more'):
        error = write(args, path, config, checkpoint_path)
    if args.format == 'pb':
        describe(config, args.batch_size)
    print(f'largest difference to the checkpoint on random input {error:.1e}, limit '
          f'{LIMITS[args.format]:g}')
    print(f'wrote {path} ({size_of(path) / 1e6:.1f} MB)')
    if args.format == 'ckpt':
        print('next: python test.py --experiment_name '
              + shlex.quote(path if '/' in path else f'./{path}'))
    elif args.format == 'web':
        print(f'next: open {os.path.join(path, "index.html")} in a browser')


if __name__ == '__main__':
    run_command(main)
