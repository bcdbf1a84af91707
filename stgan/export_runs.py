"""What scripts/export.py does: an export is written, compared with its checkpoint, and kept."""

import os
import shlex

import numpy as np

from pylib import UserError, atomic_folder, atomic_path, require_new_folder, require_place
from stgan import export, pb
from stgan.config import CHECKPOINTS
from tflib import checkpoint, faults

FOLDERS = ('savedmodel', 'web', 'ckpt')    # formats that are folders


def run(folder, config, format_='pb', output=None, inputs=None, batch_size=None, runtime=''):
    """Export an experiment's newest checkpoint.

    Args:
        folder: of the experiment; config: its `RunConfig`; format_: one of `export.LIMITS`.
        output: file or folder to write; None: one in `folder`, named after the experiment.
        inputs: of onnx and tflite, see `export.inputs_of`; batch_size: of pb, see `pb.freeze`;
            runtime: of web, see `export.web_runtime`.

    Raises:
        UserError: the experiment does not allow it, or something is in its place. RunFailed: it
            differs from the checkpoint.
    """
    path = os.path.normpath(output) if output else default_path(folder, config.experiment_name,
                                                                format_)
    check_place(path, format_)
    checkpoint_path = checkpoint.require_latest(os.path.join(folder, CHECKPOINTS))
    with faults.one_line(checkpoint_path, 'free some, or take a machine with more'):
        error = write(path, format_, config, checkpoint_path, inputs, batch_size, runtime)
    if format_ == 'pb':
        pb.describe(config, batch_size)
    print(f'largest difference to the checkpoint on random input {error:.1e}, limit '
          f'{export.LIMITS[format_]:g}')
    print(f'wrote {path} ({size_of(path) / 1e6:.1f} MB)')
    if format_ == 'ckpt':
        print('next: python test.py --experiment_name '
              + shlex.quote(path if '/' in path else f'./{path}'))
    elif format_ == 'web':
        print(f'next: open {os.path.join(path, "index.html")} in a browser')


def default_path(folder, name, format_):
    """Where an export goes if nobody says."""
    return os.path.join(folder, name + {
        'onnx-fp16': '_fp16.onnx', 'savedmodel': '_savedmodel', 'web': '_web', 'ckpt': '_slim'
    }.get(format_, f'.{format_}'))


def check_place(path, format_):
    """Raise a UserError if the export cannot be written to `path`."""
    if format_ in FOLDERS:
        require_new_folder(path, '--output')
        return
    require_place(os.path.dirname(os.path.abspath(path)), '--output')
    if os.path.isdir(path):
        raise UserError(f'--output {path}: is a folder, expected a file name')


def write(path, format_, config, checkpoint_path, inputs, batch_size, runtime):
    """Write an export to `path`; return its largest error."""
    inputs = export.inputs_of(config, inputs)
    runtime = export.web_runtime(runtime) if format_ == 'web' else None
    example = export.Example(config, checkpoint_path)
    given = config, checkpoint_path, example
    with (atomic_folder if format_ in FOLDERS else atomic_path)(path) as temporary:
        if format_ == 'pb':
            return write_pb(temporary, *given, batch_size)
        if format_ == 'ckpt':
            return export.write_slim(temporary, *given)
        if format_ == 'savedmodel':
            return export.write_saved_model(temporary, *given)
        if format_ == 'web':
            return export.write_web(temporary, *given, runtime)
        if format_ == 'tflite':
            return export.write_tflite(temporary, *given, inputs)
        return export.write_onnx(temporary, *given, inputs, format_ == 'onnx-fp16')


def write_pb(path, config, checkpoint_path, example, batch_size):
    """Write the published graph; return its largest error."""
    graph = pb.freeze(config, checkpoint_path, batch_size)
    with open(path, 'wb') as stream:
        stream.write(graph.SerializeToString())
    image, source, target = (example.feeds[name] for name in export.INPUTS['labels'])
    count, edits = target.shape[:2]
    row, column = np.divmod(np.arange(batch_size or count * edits) % (count * edits), edits)
    feeds = dict(zip(pb.INPUTS, (image[row], target[row, column], source[row])))
    found = export.run_graph(graph, f'{pb.OUTPUT}:0',
                             {f'{name}:0': value for name, value in feeds.items()})
    return export.check('pb', np.abs(found - example.edited[row, column]))


def size_of(path):
    """Bytes of a file, or of the files in a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path)
               for name in names)
