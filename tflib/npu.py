"""Sessions on Huawei Ascend NPUs: options, their rules, and the adapters that come with CANN.

Nothing here imports an adapter unless it is asked to: `npu_bridge` (TensorFlow 1.15) and
`npu_device` (TensorFlow 2.6) are parts of CANN and exist on NPU machines only.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import re
import sys
from collections import OrderedDict
from typing import Any, NamedTuple

from pylib import UserError
from tflib import tf

FUSION_SWITCH_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fusion_switch.json')

MIXED_MODES = ('allow_mix_precision', 'allow_mix_precision_fp16', 'allow_mix_precision_bf16',
               'mixed_float16', 'mixed_bfloat16')


class Option(NamedTuple):
    """A key of NpuOptimizer's parameter_map."""

    kind: str     # its field: 'b' (bool), 'i' (int) or 's' (text)
    legal: Any    # values, (lowest, highest) for numbers where None is no bound, a regular
                  # expression, or None for anything


_ANY = (None, None)
_NATURAL = (0, None)
_DUMP_STEP = re.compile(r'\d+(-\d+)?(\|\d+(-\d+)?){0,99}')

OPTIONS = OrderedDict(
    [(key, Option('b', None)) for key in (
        'use_off_line', 'enable_data_pre_proc', 'mix_compile_mode', 'enable_dump',
        'enable_dump_debug', 'profiling_mode', 'dynamic_input', 'hcom_parallel',
        'hcom_multi_mode', 'is_tailing_optimization', 'frozen_variable', 'external_weight')]
    + [(key, Option('i', bounds)) for key, bounds in (
        ('iterations_per_loop', (1, None)), ('op_debug_level', (0, 4)), ('graph_run_mode', (0, 1)),
        ('dynamic_node_type', (0, 1)), ('enable_exception_dump', (0, 2)), ('deterministic', (0, 1)),
        ('session_device_id', _NATURAL), ('local_rank_id', _NATURAL), ('hccl_timeout', _NATURAL),
        ('op_wait_timeout', _NATURAL), ('op_execute_timeout', _NATURAL),
        ('graph_exec_timeout', _NATURAL), ('enable_small_channel', (0, 1)),
        ('atomic_clean_policy', _ANY), ('static_memory_policy', _ANY))]
    + [(key, Option('s', legal)) for key, legal in (
        ('precision_mode', ('allow_fp32_to_fp16', 'force_fp16', 'force_fp32',
                            'cube_fp16in_fp32out', 'must_keep_origin_dtype', 'allow_mix_precision',
                            'allow_mix_precision_fp16', 'allow_mix_precision_bf16',
                            'allow_fp32_to_bf16')),
        ('precision_mode_v2', ('fp16', 'origin', 'cube_fp16in_fp32out', 'mixed_float16',
                               'mixed_bfloat16')),
        ('op_select_implmode', ('high_precision', 'high_performance', 'high_precision_for_all',
                                'high_performance_for_all')),
        ('dump_step', _DUMP_STEP), ('dump_mode', ('input', 'output', 'all')),
        ('dump_debug_mode', ('aicore_overflow', 'atomic_overflow', 'all')),
        ('dump_data', ('tensor', 'stats')), ('auto_tune_mode', ('RL', 'GA', 'RL,GA')),
        ('aoe_mode', ('1', '2', '4', 'mdat')), ('mstune_mode', ('1', '2', '3', '4')),
        ('dynamic_graph_execute_mode', ('dynamic_execute', 'lazy_recompile')),
        ('buffer_optimize', ('l2_optimize', 'off_optimize')),
        ('op_compiler_cache_mode', ('enable', 'disable', 'force')),
        ('jit_compile', ('true', 'false', 'auto')), ('variable_placement', ('Device', 'Host')))]
    + [(key, Option('s', None)) for key in (
        'modify_mixlist', 'op_precision_mode', 'optypelist_for_implmode', 'fusion_switch_file',
        'dump_path', 'dump_layer', 'op_debug_config', 'debug_dir', 'profiling_options',
        'work_path', 'dynamic_inputs_shape_range', 'input_shape', 'dynamic_dims',
        'graph_memory_max_size', 'variable_memory_max_size', 'stream_max_parallel_num',
        'enable_scope_fusion_passes', 'op_compiler_cache_dir', 'customize_dtypes',
        'local_device_list', 'HCCL_algorithm', 'memory_optimization_policy', 'soc_config')])


def parse_option(text):
    """Return (key, value) of a `key=value` as --npu_option takes it.

    Raises:
        UserError: no such key, or a value of the wrong kind or range.
    """
    key, equals, value = text.partition('=')
    if not equals:
        raise UserError(f'--npu_option {text}: expected key=value')
    if key not in OPTIONS:
        raise UserError(f'--npu_option {key}: unknown; choose from {", ".join(OPTIONS)}')
    kind = OPTIONS[key].kind
    if kind == 'b':
        if value.lower() not in ('true', 'false'):
            raise UserError(f'--npu_option {key}: expected true or false, got {value!r}')
        return key, value.lower() == 'true'
    if kind == 'i':
        try:
            return key, int(value)
        except ValueError:
            raise UserError(f'--npu_option {key}: expected a whole number, got {value!r}') from None
    return key, value


def check_options(options):
    """Check a dict of parameter_map values, each on its own and with the others.

    Raises:
        UserError: names the key.
    """
    for key, value in options.items():
        _check_option(key, value)

    def is_set(*keys):
        return [key for key in keys if options.get(key) not in (None, '', False)]

    if len(is_set('precision_mode', 'precision_mode_v2')) == 2:
        raise UserError('NPU option precision_mode_v2: not together with precision_mode')
    mode = options.get('precision_mode') or options.get('precision_mode_v2')
    if is_set('modify_mixlist') and mode not in MIXED_MODES:
        raise UserError(f'NPU option modify_mixlist: only with a mixed precision_mode, not {mode}')
    if is_set('enable_dump', 'enable_dump_debug') and not is_set('dump_path'):
        raise UserError('NPU option dump_path: missing, enable_dump and enable_dump_debug need it')
    if is_set('op_select_implmode') and not is_set('optypelist_for_implmode'):
        raise UserError('NPU option op_select_implmode: needs optypelist_for_implmode')
    if is_set('mix_compile_mode') and options.get('iterations_per_loop', 1) > 1:
        raise UserError('NPU option mix_compile_mode: not with iterations_per_loop above 1')
    shapes = ('input_shape', 'dynamic_dims', 'dynamic_node_type')
    dynamic = [key for key in shapes if key in options]
    if len(dynamic) not in (0, 3):
        raise UserError(f'NPU option {dynamic[0]}: input_shape, dynamic_dims and dynamic_node_type '
                        'go together')
    for key in ('fusion_switch_file', 'modify_mixlist', 'op_precision_mode', 'op_debug_config'):
        if is_set(key) and not os.path.isfile(options[key]):
            raise UserError(f'NPU option {key}: {options[key]}: no such file')


def _option(key):
    if key not in OPTIONS:
        raise UserError(f'NPU option {key}: unknown; choose from {", ".join(OPTIONS)}')
    return OPTIONS[key]


def _check_option(key, value):
    kind, legal = _option(key)
    expected = {'b': bool, 'i': int, 's': str}[kind]
    if not isinstance(value, expected) or isinstance(value, bool) != (kind == 'b'):
        raise UserError(f'NPU option {key}: expected {expected.__name__}, got {value!r}')
    if legal is None:
        return
    if kind == 'i':
        lowest, highest = legal
        if (lowest is not None and value < lowest) or (highest is not None and value > highest):
            raise UserError(f'NPU option {key}: {value} is not between {lowest} and {highest}')
    elif isinstance(legal, tuple) and value not in legal:
        raise UserError(f'NPU option {key}: {value!r}; choose from {", ".join(legal)}')
    elif not isinstance(legal, tuple) and not legal.fullmatch(value):
        raise UserError(f'NPU option {key}: {value!r}; expected steps such as 0|5|10-20')


def entry_options(entry):
    """Return {key: value} of a NpuOptimizer entry."""
    return {key: tf.compat.as_str(value.s) if _option(key).kind == 's'
            else getattr(value, _option(key).kind) for key, value in entry.parameter_map.items()}


def update_entry(entry, options):
    """Set `options` in a NpuOptimizer entry, checked together with those it has."""
    check_options(dict(entry_options(entry), **options))
    for key, value in options.items():
        kind = OPTIONS[key].kind
        setattr(entry.parameter_map[key], kind, tf.compat.as_bytes(value) if kind == 's' else value)


def _entry_in(config):
    for entry in config.graph_options.rewrite_options.custom_optimizers:
        if entry.name == 'NpuOptimizer':
            return entry
    return None


def add_to_config(config, options):
    """Set checked `options` in the custom optimizer `NpuOptimizer` of a ConfigProto.

    It is added unless it is there; what else it says stays.
    """
    rewrite = config.graph_options.rewrite_options
    entry = _entry_in(config)
    if entry is None:
        check_options(options)
        entry = rewrite.custom_optimizers.add(name='NpuOptimizer')
    update_entry(entry, options)
    rewrite.remapping = rewrite.OFF
    rewrite.memory_optimization = rewrite.OFF


def options_in(config):
    """Return {key: value} of the NpuOptimizer entry of a ConfigProto, or None without one."""
    entry = _entry_in(config)
    return None if entry is None else entry_options(entry)


def training_options(precision, over_dump_path='', data_dump_path='', data_dump_step='0',
                     profiling_path='', extra=()):
    """Return the parameter_map values of a training session.

    Args:
        precision: 'high' or 'mixed'.
        over_dump_path: folder for operators that overflow; '': none are looked for.
        data_dump_path: folder for all tensors of the steps `data_dump_step`; '': none.
        profiling_path: folder for profiles; '': none.
        extra: `key=value` texts, which win.
    """
    options = OrderedDict(use_off_line=True, graph_run_mode=1)
    if precision == 'mixed':
        options['precision_mode'] = 'allow_mix_precision'
    else:
        options['precision_mode'] = 'allow_fp32_to_fp16'
        options['fusion_switch_file'] = FUSION_SWITCH_FILE
    if over_dump_path and data_dump_path:
        raise UserError('--over_dump and --data_dump: one at a time, NPUs have one dump path')
    if over_dump_path:
        options.update(enable_dump_debug=True, dump_debug_mode='all',
                       dump_path=os.path.abspath(over_dump_path))
    if data_dump_path:
        options.update(enable_dump=True, dump_mode='all', dump_step=data_dump_step,
                       dump_path=os.path.abspath(data_dump_path))
    if profiling_path:
        options.update(profiling_mode=True, profiling_options=json.dumps({
            'output': os.path.abspath(profiling_path), 'training_trace': 'on', 'task_trace': 'on',
            'hccl': 'on', 'aicpu': 'on', 'fp_point': '', 'bp_point': '',
            'aic_metrics': 'PipeUtilization'}))
    options.update(parse_option(text) for text in extra)
    check_options(options)
    return options


def is_installed():
    """Whether an adapter for this TensorFlow can be imported, without importing it."""
    return importlib.util.find_spec(_adapter_name()) is not None


def _adapter_name():
    return 'npu_bridge' if tf.__version__.startswith('1.') else 'npu_device'


def _adapter_root():
    """The package that is laid out alike in both adapters."""
    return 'npu_bridge' if _adapter_name() == 'npu_bridge' else 'npu_device.compat.v1'


def load_adapter():
    """Import the adapter of this TensorFlow once; sessions run on the NPU from then on.

    Raises:
        UserError: it is not there, or CANN is not set up.
    """
    name = _adapter_name()
    try:
        importlib.import_module(f'{_adapter_root()}.npu_init')
        if name == 'npu_device':
            importlib.import_module(name).compat.enable_v1()
            # That disables v2 behaviour once more, and with it what tflib enabled after it.
            tf.enable_resource_variables()
    except ImportError as error:
        raise UserError(
            f'--device npu: looked for {name}, the adapter of CANN for TensorFlow '
            f'{"1.15" if name == "npu_bridge" else "2.6"} ({error}); install CANN and its '
            'TensorFlow plug-in and source its set_env.sh, or take --device cpu or gpu') from None


def dump_config_class():
    """The adapter's `DumpConfig`, which settings of an estimator take; imports the adapter."""
    load_adapter()
    return importlib.import_module(f'{_adapter_root()}.estimator.npu.npu_config').DumpConfig


def adapter_is_loaded():
    """Whether `load_adapter` or anybody else has imported an adapter."""
    return 'npu_bridge' in sys.modules or 'npu_device' in sys.modules


_configured = {}


def prepare_session(config):
    """Make ready what an NPU session needs outside of the process, and keep to one configuration.

    Raises:
        UserError: an unusable dump folder, or another configuration than that of the first
            session: the graph engine reads it once per process.
    """
    options = options_in(config)
    if _configured.setdefault('options', options) != options:
        changed = sorted(key for key in set(options) | set(_configured['options'])
                         if options.get(key) != _configured['options'].get(key))
        raise UserError(f'NPU options {", ".join(changed)}: a process keeps the configuration of '
                        'its first NPU session; use another process')
    folders = [options[key] for key in ('dump_path',) if key in options]
    if 'profiling_options' in options:
        folders.append(json.loads(options['profiling_options']).get('output', '.'))
    for folder in folders:
        # The adapter refuses a session whose dump folder does not exist.
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise UserError(f'{folder}: {error.strerror}; choose another path for dumps') from None
        if not os.access(folder, os.W_OK):
            raise UserError(f'{folder}: not writable; choose another path for dumps')


def has_loss_scale_optimizer():
    """Whether the loaded adapter has Ascend's NPULossScaleOptimizer: that of TensorFlow 1.15."""
    return _adapter_name() == 'npu_bridge'


def loss_scale_optimizer(optimizer, start, fixed, skipped, count_skipped):
    """Return (NPULossScaleOptimizer, its manager, which has `scale` and `skipped` too).

    Args:
        start: initial scale; fixed: whether it stays so; skipped: int64 variable; count_skipped:
            function of the variable and a bool scalar that returns the operation which counts.
    """
    managers = importlib.import_module('npu_bridge.estimator.npu.npu_loss_scale_manager')
    optimizers = importlib.import_module('npu_bridge.estimator.npu.npu_loss_scale_optimizer')
    manager = managers.FixedLossScaleManager(start) if fixed else (
        managers.ExponentialUpdateLossScaleManager(
            init_loss_scale=start, incr_every_n_steps=1000, decr_every_n_nan_or_inf=2,
            incr_ratio=2, decr_ratio=0.5))
    manager.scale, manager.skipped = manager.get_loss_scale(), skipped
    rule = manager.update_loss_scale
    manager.update_loss_scale = lambda finite: tf.group(rule(finite),
                                                        count_skipped(skipped, finite))
    return optimizers.NPULossScaleOptimizer(optimizer, manager), manager


def no_overflow(gradients):
    """Bool scalar: whether the device has seen no overflow, by its sticky status register.

    The register is read when all gradients are there and cleared after that, for the next update.
    For the adapter for TensorFlow 2, which has no NPULossScaleOptimizer.
    """
    ops = importlib.import_module('npu_device').gen_npu_ops
    with tf.control_dependencies([gradient for gradient in gradients if gradient is not None]):
        status = ops.npu_get_float_status_v2()
    with tf.control_dependencies([status]):
        cleared = ops.npu_clear_float_status_v2()
    with tf.control_dependencies([cleared]):
        return tf.reduce_all(tf.equal(status, 0))


@contextlib.contextmanager
def float32_scope():
    """Operations built in this block, or function, stay float32 when an NPU mixes precisions.

    Without a loaded adapter nothing happens; `utils.FLOAT32_ISLANDS` does the same elsewhere.
    """
    if not adapter_is_loaded():
        yield
        return
    scopes = importlib.import_module(f'{_adapter_root()}.estimator.npu.npu_scope')
    with scopes.keep_dtype_scope():
        yield
