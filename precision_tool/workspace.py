"""What the commands and the dumping scripts agree on: environment variables, and where files lie.

All of a diagnosis is in one folder, below the working directory by default:

    precision_data/
        npu/debug_0/{dump,graph,prof}   an NPU run: dumped tensors, compiled graphs, profiles
        npu/debug_1/...                 another one to compare with, and so on
        overflow/dump                   operators that overflowed
        fusion                          fusion switch files to edit
        tf/tf_debug                     raw dumps of TensorFlow's debugger
        tf/dump                         golden tensors made from them
        tf/checkpoints                  a saved training step
        tf/checkpoints/input            what was fed to that step
        pt/{npu,gpu}                    dumps of PyTorch
        temp/...                        what can be made again

Nothing here creates a folder: whoever writes a file does.
"""

import os

DATA_ROOT = 'precision_data'
# Action of `tf_config` -> the variable that asks for it where the script does not; that of an
# overflow goes first.
VARIABLES = {'overflow': 'PRECISION_TOOL_OVERFLOW', 'dump': 'PRECISION_TOOL_DUMP'}
VARIABLE_ON = 'True'


class Workspace:
    """The paths below `root`, as absolute as `root` is.

    Attributes:
        root: the folder itself; the others: see the module.
    """

    def __init__(self, root=DATA_ROOT):
        self.root = os.fspath(root)

    def _path(self, *parts):
        return os.path.join(self.root, *parts)

    def npu_debug(self, debug_id=0):
        """Folder of the NPU run number `debug_id`."""
        return self._path('npu', f'debug_{debug_id}')

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
    def pt(self):
        return self._path('pt')

    @property
    def op_graph(self):
        return self._path('temp', 'op_graph')

    @property
    def dump_convert(self):
        return self._path('temp', 'decode', 'dump_convert')

    @property
    def vector_compare(self):
        """Folder of the comparisons, each in a folder named by its time."""
        return self._path('temp', 'vector_compare')

    def debug_ids(self):
        """Numbers of the NPU runs that have a folder, ascending."""
        try:
            names = os.listdir(self._path('npu'))
        except OSError:
            return []
        digits = [name[len('debug_'):] for name in names if name.startswith('debug_')]
        return sorted(int(each) for each in digits
                      if each.isdecimal() and each.isascii() and str(int(each)) == each)
