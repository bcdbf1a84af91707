"""One training step twice: on the CPU, which gives the golden tensors, and on an NPU.

The training script opens `PrecisionTfSession` instead of tf.Session. It saves what is fed and the
weights, so that `train` can do the step again without the script.
"""

import glob
import os
import threading

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow.python.client import session as client_session
from tensorflow.python.util import nest

from precision_tool import tf_config, tf_dump
from precision_tool.reading import load_npy
from precision_tool.workspace import DATA_ROOT, Workspace
from pylib import RunFailed, UserError, atomic_path, warn
from tflib import npu, tf

DEVICES = ('cpu', 'npu')
RANDOM_VALUES = 1 << 28  # most values that stand for one missing input

_INPUTS = ('Placeholder', 'PlaceholderV2', 'IteratorGetNext')


def input_name(tensor_name):
    """File name of what is fed to a tensor, e.g. 'in_x_0.npy' for 'in/x:0'."""
    return tensor_name.replace(':', '_').replace('/', '_') + '.npy'


class PrecisionTfSession(tf.Session):
    """A tf.Session that saves each run: what was fed to it, and the variables after it.

    They go to `tf/checkpoints` of the workspace in `root` and replace those of the run before.
    Variables are saved once all of them are initialized. Saving takes time in every run.

    Raises:
        UserError: the graph was finalized before the first run, which adds operations to save.
        RunFailed: the disk refuses.
    """

    def __init__(self, target='', graph=None, config=None, root=DATA_ROOT):
        super().__init__(target, graph, config)
        self._workspace = Workspace(os.path.abspath(root))
        self._inner = threading.local()  # whether this thread is within a run
        self._saving = threading.Lock()
        self._saver, self._saved_names, self._saved_version = None, None, None

    def run(self, fetches, feed_dict=None, options=None, run_metadata=None):
        if getattr(self._inner, 'running', False):
            return super().run(fetches, feed_dict, options, run_metadata)
        self._inner.running = True
        try:
            results = super().run(fetches, feed_dict, options, run_metadata)
            with self._saving:
                self._save(feed_dict or {})
        finally:
            self._inner.running = False
        return results

    def _save(self, feed_dict):
        folder = self._workspace.checkpoints
        try:
            for tensor, value in _fed(self.graph, feed_dict):
                _save_input(self._workspace, tensor, value)
            os.makedirs(folder, exist_ok=True)
            with self.graph.as_default():
                self._save_variables()
        except tf.errors.FailedPreconditionError:
            return  # not all of them are initialized yet
        except (tf.errors.OpError, OSError) as error:
            raise RunFailed(f'{folder}: could not be saved ({tf_dump.reason(error)})') from None

    def _save_variables(self):
        names = [variable.name for variable in tf.global_variables()]
        if names != self._saved_names:
            if self.graph.finalized:
                raise UserError('PrecisionTfSession: the graph is finalized, so nothing can be '
                                'added that saves it; finalize it after the first run')
            self._saver = tf.train.Saver(max_to_keep=1) if names else None
            self._saved_names = names
        changed = self._saved_version != self.graph.version
        path = self._workspace.checkpoint
        if self._saver:
            # The graph takes seconds to write.
            self._saver.save(self, path, write_meta_graph=changed)
        elif changed:
            tf.train.export_meta_graph(path + '.meta')
        self._saved_version = self.graph.version


def _fed(graph, feed_dict):
    """Yield (tensor, value) of all that a feed_dict feeds: a key may be a name or several tensors.

    Composite tensors and tuples are taken apart as Session.run does it.
    """
    for key, value in nest.flatten_dict_items(feed_dict).items():
        for kind, _, parts, _ in client_session._REGISTERED_EXPANSIONS:
            if isinstance(key, kind):
                for part, part_value in parts(key, value):
                    yield graph.as_graph_element(part, allow_operation=False), part_value
                break


def _save_input(workspace, tensor, value):
    dtype = tensor.dtype.base_dtype
    try:
        if dtype == tf.string:
            texts = np.asarray(value, object)
            encoded = [tf.compat.as_bytes(text) for text in texts.ravel()]
            if any(text.endswith(b'\0') for text in encoded):
                raise ValueError('text that ends in zero bytes')
            value = np.array(encoded, 'S').reshape(texts.shape)
        else:
            value = np.asarray(value, dtype.as_numpy_dtype)
            # NumPy's files know no brain floats.
            value = value.astype(np.float32) if value.dtype.kind == 'V' else value
    except (TypeError, ValueError) as error:
        warn(f'{tensor.name}: what is fed to it is not saved ({tf_dump.reason(error)})')
        return
    path = os.path.join(workspace.checkpoint_input, input_name(tensor.name))
    with atomic_path(path) as temporary:
        np.save(temporary, value, allow_pickle=False)


def train(workspace, device, action='dump'):
    """Do the saved training step again: the operations of the collection TRAIN_OP, run once.

    Dropout rates become 0 and random operations get a seed. Inputs that were not saved are random,
    with a warning.

    Args:
        workspace: a `Workspace` with `tf/checkpoints`, see `PrecisionTfSession`.
        device: 'cpu': under TensorFlow's debugger, its tensors go to `tf/dump`; 'npu': with
            `tf_config.session_dump_config(action)`; 'all': one after the other.

    Returns:
        The `tf_dump.Count` of the golden tensors; None without the CPU.

    Raises:
        UserError: nothing saved, nothing to train, damaged files, no adapter for the NPU.
        RunFailed: the step itself fails.
    """
    if device == 'all':
        counts = [train(workspace, each, action) for each in DEVICES]
        return counts[DEVICES.index('cpu')]
    if device not in DEVICES:
        raise UserError(f'device {device!r}: unknown; choose from {", ".join(DEVICES)}, all')
    meta = _newest_meta(workspace.checkpoints)
    with tf.Graph().as_default() as graph:
        saver = _import(meta)
        operations = [each for each in graph.get_collection(tf.GraphKeys.TRAIN_OP)
                      if isinstance(each, (tf.Operation, tf.Tensor))]
        if not operations:
            raise UserError(f'{meta}: no operations in its collection {tf.GraphKeys.TRAIN_OP}; '
                            'put the training operations there with tf.add_to_collection')
        feeds = _feeds(workspace, operations)
        config = _session_config(workspace, device, action)
        with tf.Session(graph=graph, config=config) as session:
            _restore(session, saver, meta)
            runner = (tf_config.sess_dump(session, workspace.root) if device == 'cpu'
                      else session)
            try:
                runner.run(operations, feeds)
            except tf.errors.OpError as error:
                raise RunFailed(f'{meta}: the step failed on the {device} '
                                f'({tf_dump.reason(error)})') from None
    if device == 'npu':
        return None
    return tf_dump.convert(tf_dump.newest_run(workspace.tf_debug), workspace.tf_dump)


def _session_config(workspace, device, action):
    if device == 'npu':
        npu.load_adapter()
        config = tf_config.session_dump_config(None, action, workspace.root)
        npu.prepare_session(config)
        return config
    return tf_config.golden_config()


def _newest_meta(folder):
    paths = glob.glob(os.path.join(glob.escape(folder), '*.meta'))
    if not paths:
        raise UserError(f'{folder}: no graph (*.meta); train with PrecisionTfSession first')
    return max(paths, key=os.path.getmtime)


def _import(meta):
    """Add the graph in a .meta file to the current one; returns its Saver, or None without one."""
    try:
        if os.path.getsize(meta) > tf_dump.PROTO_BYTES:
            raise UserError(f'{meta}: larger than {tf_dump.PROTO_BYTES} bytes; not a graph')
        with open(meta, 'rb') as stream:
            proto = tf.MetaGraphDef.FromString(stream.read())
    except OSError as error:
        raise UserError(f'{meta}: {error.strerror}') from None
    except DecodeError:
        raise UserError(f'{meta}: not a graph; train with PrecisionTfSession again') from None
    try:
        for number, node in enumerate(proto.graph_def.node, 1):
            _make_deterministic(node, number)
        return tf.train.import_meta_graph(proto, clear_devices=True)
    except tf_dump.DAMAGE as error:
        raise UserError(f'{meta}: cannot be imported ({tf_dump.reason(error)}); train with '
                        'PrecisionTfSession again, with this TensorFlow') from None


def _make_deterministic(node, number):
    """Switch dropout off in a NodeDef, and seed it if it draws numbers without a seed."""
    if node.op == 'Const' and 'dropout' in node.name and 'rate' in node.name:
        tensor = node.attr['value'].tensor
        dtype = tf.as_dtype(tensor.dtype)
        if dtype.is_floating:
            shape = [dim.size for dim in tensor.tensor_shape.dim]
            tensor.CopyFrom(tf.make_tensor_proto(0., dtype, shape))
    if 'seed' in node.attr and 'seed2' in node.attr and not (
            node.attr['seed'].i or node.attr['seed2'].i):
        node.attr['seed'].i, node.attr['seed2'].i = tf_config.SEED, number


def _restore(session, saver, meta):
    prefix = meta[:-len('.meta')]
    try:
        session.run([tf.local_variables_initializer(), tf.tables_initializer()])
        if saver:
            saver.restore(session, prefix)
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f'{prefix}: not a whole checkpoint ({tf_dump.reason(error)}); train with '
                        'PrecisionTfSession again') from None


def _feeds(workspace, operations):
    """Return {tensor: value} of the saved inputs that `operations` need, and random other ones."""
    folder = workspace.checkpoint_input
    saved = set(os.listdir(folder)) if os.path.isdir(folder) else set()
    feeds, missing, seen = {}, [], set()
    pending = [getattr(each, 'op', each) for each in operations]
    while pending:
        operation = pending.pop()
        if operation in seen:
            continue
        seen.add(operation)
        if operation.type in _INPUTS:
            missing += operation.outputs
        pending += operation.control_inputs
        for tensor in operation.inputs:
            if input_name(tensor.name) in saved:
                feeds[tensor.name] = _load(os.path.join(folder, input_name(tensor.name)), tensor)
            else:
                pending.append(tensor.op)
    missing = sorted((each for each in missing if each.name not in feeds), key=lambda t: t.name)
    if missing:
        warn(f'{folder}: nothing saved for {", ".join(each.name for each in missing)}; taking '
             f'random values, unless there are files such as {input_name(missing[0].name)}')
    random = np.random.RandomState(tf_config.SEED)
    feeds.update((tensor.name, _random_value(random, tensor)) for tensor in missing)
    return feeds


def _load(path, tensor):
    value = load_npy(path)
    if not tensor.shape.is_compatible_with(value.shape):
        raise UserError(f'{path}: not of shape {tensor.shape}, which {tensor.name} has; delete it '
                        'or train with PrecisionTfSession again')
    return value


def _random_value(random, tensor):
    """Random values for a tensor: floats in [0,1), integers 0 or 1; unknown dimensions are 1."""
    dtype = tensor.dtype.base_dtype
    shape = [1 if size is None else size for size in tensor.shape.as_list()
             ] if tensor.shape.rank is not None else []
    if dtype in (tf.resource, tf.variant) or np.prod([float(size) for size in shape]
                                                     ) > RANDOM_VALUES:
        raise UserError(f'{tensor.name} ({dtype.name} {shape}): cannot be made up; save it with '
                        'PrecisionTfSession')
    if dtype == tf.string:
        return np.full(shape, b'')
    if dtype.is_floating or dtype.is_complex:
        return random.uniform(size=shape).astype(dtype.as_numpy_dtype)
    return random.randint(2, size=shape).astype(dtype.as_numpy_dtype)
