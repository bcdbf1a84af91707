"""Where the files of a diagnosis lie: one folder, below the working directory by default.

    precision_data/
        npu/debug_0/{dump,graph,prof}   an NPU run: dumped tensors, compiled graphs, profiles
        npu/debug_1/...                 another one to compare with, and so on
        overflow/dump                   operators that overflowed
        fusion                          fusion switch files to edit
        tf/tf_debug                     raw dumps of TensorFlow's debugger
        tf/dump                         golden tensors made from them
        tf/{graph,checkpoints}          TensorFlow's graph; a saved training step
        tf/checkpoints/input            what was fed to that step
        pt/{npu,gpu}                    dumps of PyTorch
        temp/...                        what can be made again

Nothing here creates a folder: whoever writes a file does.
"""

import os

from pylib import UserError

DATA_ROOT = 'precision_data'


class Workspace:
    """The paths below `root`, as absolute as `root` is.

    Attributes:
        root: the folder itself; the others: see the module.
    """

    def __init__(self, root=DATA_ROOT):
        self.root = os.fspath(root)

    def __repr__(self):
        return f'{type(self).__name__}({self.root!r})'

    def _path(self, *parts):
        return os.path.join(self.root, *parts)

    def npu_debug(self, debug_id):
        """Folder of the NPU run number `debug_id`: a natural number, or text of one.

        Raises:
            UserError: it is none.
        """
        return self._path('npu', f'debug_{_natural(debug_id)}')

    def npu_dump(self, debug_id=0):
        """Dumped tensors of an NPU run."""
        return os.path.join(self.npu_debug(debug_id), 'dump')

    def npu_graph(self, debug_id=0):
        """Compiled graphs (ge_proto_*) of an NPU run."""
        return os.path.join(self.npu_debug(debug_id), 'graph')

    def npu_prof(self, debug_id=0):
        """Profiles of an NPU run."""
        return os.path.join(self.npu_debug(debug_id), 'prof')

    @property
    def overflow_dump(self):
        return self._path('overflow', 'dump')

    @property
    def fusion(self):
        return self._path('fusion')

    @property
    def tf_debug(self):
        return self._path('tf', 'tf_debug')

    @property
    def tf_dump(self):
        return self._path('tf', 'dump')

    @property
    def tf_graph(self):
        return self._path('tf', 'graph')

    @property
    def checkpoints(self):
        return self._path('tf', 'checkpoints')

    @property
    def checkpoint(self):
        """Prefix of the checkpoint's files."""
        return os.path.join(self.checkpoints, 'ckpt')

    @property
    def checkpoint_input(self):
        return os.path.join(self.checkpoints, 'input')

    @property
    def pt_npu(self):
        return self._path('pt', 'npu')

    @property
    def pt_gpu(self):
        return self._path('pt', 'gpu')

    @property
    def temp(self):
        return self._path('temp')

    @property
    def op_graph(self):
        return self._path('temp', 'op_graph')

    def dump_decode(self, debug_id=0):
        """Tensors decoded from the dump files of an NPU run."""
        return self._path('temp', 'decode', 'dump_decode', str(_natural(debug_id)))

    @property
    def overflow_decode(self):
        return self._path('temp', 'decode', 'overflow_decode')

    @property
    def dump_convert(self):
        return self._path('temp', 'decode', 'dump_convert')

    @property
    def pt_decode(self):
        return self._path('temp', 'decode', 'pt')

    @property
    def vector_compare(self):
        return self._path('temp', 'vector_compare')

    def vector_compare_folder(self, now):
        """Folder of the comparison made at `now`, a datetime."""
        return os.path.join(self.vector_compare, now.strftime('%Y%m%d%H%M%S'))

    def debug_ids(self):
        """Numbers of the NPU runs that have a folder, ascending."""
        try:
            names = os.listdir(self._path('npu'))
        except OSError:
            return []
        digits = [name[len('debug_'):] for name in names if name.startswith('debug_')]
        return sorted(int(each) for each in digits
                      if each.isdecimal() and each.isascii() and str(int(each)) == each)


def _natural(debug_id):
    try:
        number = int(debug_id)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise UserError(f'debug id {debug_id!r}: expected 0, 1, ...')
    return number
