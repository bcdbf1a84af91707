"""What a training or inference script calls to have its run dumped, on an NPU or by TensorFlow.

    config = tf_config.session_dump_config(config, action='dump|fusion_off')   # NPU
    session = tf_config.sess_dump(session)                                     # golden run

Actions, joined by `|`:
    dump            all tensors of step 0
    overflow        operators that overflow; NPUs have one dump path, so `dump` is ignored then
    fusion_off      no fusion, as far as passes can be switched off
    fusion_switch   switches fusion passes as `fusion/fusion_switch.json` of the workspace says;
                    without one, a file to edit is put there; ignored beside `fusion_off`
    prof            profiles
Without an action (None) the environment decides: PRECISION_TOOL_OVERFLOW=True stands for
`overflow`, PRECISION_TOOL_DUMP=True for `dump`.

Importing this module changes nothing. Folders appear for the actions that write there, and the
environment variables that make the graph engine write its graphs for `dump` and `overflow` only.
"""

import importlib
import importlib.util
import json
import os
import random
import time
from collections import OrderedDict

import numpy as np
from tensorflow.python import debug as tfdbg

from precision_tool.workspace import DATA_ROOT, VARIABLE_ON, VARIABLES, Workspace
from pylib import UserError, write_text
from tflib import npu, tf, utils

ACTIONS = ('dump', 'overflow', 'fusion_off', 'fusion_switch', 'prof')
SEED = 2022

_SHIPPED = os.path.dirname(os.path.abspath(__file__))
_FUSION_SWITCH = 'fusion_switch.json'
_DUMP_KEYS = ('enable_dump', 'enable_dump_debug', 'dump_mode', 'dump_debug_mode', 'dump_step',
              'dump_path')
# Where global_options() of npu_device has them, and under which name.
_NESTED = dict([(key, ('dump_config', key)) for key in _DUMP_KEYS],
               profiling_mode=('profiling_config', 'enable_profiling'),
               profiling_options=('profiling_config', 'profiling_options'))


def session_dump_config(session_config=None, action=None, root=DATA_ROOT):
    """Make a ConfigProto that of an NPU session which does `action`.

    Args:
        session_config: changed in place; its NpuOptimizer entry, if any, keeps its other options.
            None: a new one.
        action: see the module; root: the workspace's folder.

    Returns:
        The ConfigProto; remapping and memory optimization are off, as NPUs need it.

    Raises:
        UserError: an unknown action, illegal options, or a folder that cannot be made.
    """
    config = tf.ConfigProto() if session_config is None else session_config
    options = _options(action, root)
    npu.add_to_config(config, OrderedDict(options, use_off_line=True))
    _prepare(options, root)
    return config


def update_custom_op(custom_op, action=None, root=DATA_ROOT):
    """Set the options of `action` in a NpuOptimizer entry of a ConfigProto, and return it.

    Only the entry is changed; see `session_dump_config` for the rest.
    """
    options = _options(action, root)
    npu.update_entry(custom_op, options)
    _prepare(options, root)
    return custom_op


def estimator_dump_config(action=None, root=DATA_ROOT):
    """Return the adapter's DumpConfig for `NPURunConfig(dump_config=...)`.

    Raises:
        UserError: an action that a DumpConfig cannot express, or there is no adapter.
    """
    others = sorted(_actions(action) - {'dump', 'overflow'})
    if others:
        raise UserError(f'action {others[0]}: not in an estimator\'s DumpConfig; take dump or '
                        'overflow here, and NPURunConfig\'s own arguments for the rest')
    options = _options(action, root)
    settings = npu.dump_config_class()(
        **{key: value for key, value in options.items() if key in _DUMP_KEYS})
    _prepare(options, root)
    return settings


def npu_device_dump_config(npu_device, action=None, root=DATA_ROOT):
    """Set the options of `action` in `npu_device.global_options()`, and return the module.

    Args:
        npu_device: the adapter for TensorFlow 2, as imported; before its `open()`.
    """
    options = _options(action, root)
    npu.check_options(options)
    for key, value in options.items():
        target, (group, name) = npu_device.global_options(), _NESTED.get(key, (None, key))
        try:
            setattr(getattr(target, group) if group else target, name, value)
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f'npu_device {key}={value}: refused by this version of the adapter '
                            f'({str(error).splitlines()[0]})') from None
    _prepare(options, root)
    return npu_device


def sess_dump(sess, root=DATA_ROOT):
    """Return `sess` wrapped by TensorFlow's debugger: every run() dumps all its tensors.

    They go to `tf/tf_debug` of the workspace; see `tf_dump` for what to do with them.
    """
    # Without the last argument a run that fails would return its error instead of raising it.
    return tfdbg.DumpingDebugWrapperSession(sess, _debug_folder(root), pass_through_operrors=True)


def golden_config():
    """The ConfigProto of a golden run on the CPU: all operations run, none folded or fused."""
    config = utils.session_config('cpu')
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
    return config


def estimator_dump(root=DATA_ROOT):
    """Return a hook for estimators and monitored sessions that does what `sess_dump` does."""
    return tfdbg.DumpingDebugHook(_debug_folder(root))


def _debug_folder(root):
    # The debugger insists on a folder of its own for each session.
    folder = Workspace(root).tf_debug
    return os.path.join(os.path.abspath(folder), f'session_{time.time_ns() // 1000}')


def seed_everything(seed=SEED):
    """Seed Python, NumPy and TensorFlow; call it before the graph is built.

    Hashes of texts are seeded for child processes only: Python reads their seed when it starts.
    With the package `tfdeterminism` TensorFlow 1.15 sums up in one order on GPUs too.
    """
    os.environ['PYTHONHASHSEED'] = str(seed)
    random.seed(seed)
    np.random.seed(seed)
    tf.set_random_seed(seed)
    if tf.__version__.startswith('1.') and importlib.util.find_spec('tfdeterminism'):
        importlib.import_module('tfdeterminism').patch()


def _actions(action):
    """The set of words in `action`."""
    if action is None:
        return {name for name, variable in VARIABLES.items()
                if os.environ.get(variable) == VARIABLE_ON}
    words = {word.strip() for word in action.split('|')}
    unknown = sorted(words - set(ACTIONS))
    if unknown:
        raise UserError(f'action {unknown[0]!r}: unknown; choose from {", ".join(ACTIONS)}, '
                        'several of them joined by |')
    return words


def _options(action, root):
    """The parameter_map values that `action` stands for."""
    actions, workspace, options = _actions(action), Workspace(os.path.abspath(root)), OrderedDict()
    if 'overflow' in actions:
        options.update(enable_dump_debug=True, dump_debug_mode='all',
                       dump_path=workspace.overflow_dump)
    elif 'dump' in actions:
        options.update(enable_dump=True, dump_mode='all', dump_step='0',
                       dump_path=workspace.npu_dump())
    if options:
        options.update(op_debug_level=4, debug_dir=workspace.npu_debug())
    if 'fusion_off' in actions:
        options['fusion_switch_file'] = os.path.join(_SHIPPED, 'fusion_off.json')
    elif 'fusion_switch' in actions:
        options['fusion_switch_file'] = _editable_fusion_switch(workspace)
    if 'prof' in actions:
        options.update(profiling_mode=True, profiling_options=json.dumps(OrderedDict([
            ('output', workspace.npu_prof()), ('storage_limit', '1000MB'),
            ('training_trace', 'on'), ('l2', 'on'), ('hccl', 'on'), ('task_trace', 'on'),
            ('aicpu', 'on'), ('msproftx', 'on'), ('aic_metrics', 'PipeUtilization')])))
    return options


def _editable_fusion_switch(workspace):
    """Path of the workspace's fusion switch file; made if absent, never overwritten."""
    path = os.path.join(workspace.fusion, _FUSION_SWITCH)
    if not os.path.lexists(path):
        with open(os.path.join(_SHIPPED, _FUSION_SWITCH), encoding='utf-8') as stream:
            text = stream.read()
        _make_folder(workspace.fusion)
        write_text(path, text)
    return path


def _make_folder(folder):
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f'{folder}: {error.strerror}; choose another root') from None


def _prepare(options, root):
    """Make the folders that `options` write to, and have graphs dumped beside tensors."""
    workspace = Workspace(os.path.abspath(root))
    folders = [options[key] for key in ('dump_path', 'debug_dir') if key in options]
    if 'dump_path' in options:
        folders.append(workspace.npu_graph())
    if 'profiling_mode' in options:
        folders.append(workspace.npu_prof())
    for folder in folders:
        _make_folder(folder)
    if 'dump_path' in options:
        os.environ.update(DUMP_GE_GRAPH='2', DUMP_GRAPH_LEVEL='3', NPU_DUMP_GRAPH='true',
                          DUMP_GRAPH_PATH=workspace.npu_graph())
