"""Sessions on Huawei Ascend NPUs: options, their rules, and the adapters that come with CANN.

Nothing here imports an adapter unless it is asked to: `npu_bridge` (TensorFlow 1.15) and
`npu_device` (TensorFlow 2.6) are parts of CANN and exist on NPU machines only.
"""

import contextlib
import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
from collections import OrderedDict
from typing import Any, NamedTuple

from pylib import UserError, warn
from tflib import tf

FUSION_SWITCH_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fusion_switch.json')

_MIXED_V1 = 'allow_mix_precision', 'allow_mix_precision_fp16', 'allow_mix_precision_bf16'
_MIXED_V2 = 'mixed_float16', 'mixed_bfloat16'


class Option(NamedTuple):
    """A key of NpuOptimizer's parameter_map.

    Attributes:
        kind: its field, 'b' (bool), 'i' (int) or 's' (text).
        legal: values, (lowest, highest) for numbers where None is no bound, or None for anything.
    """

    kind: str
    legal: Any


_ANY = (None, None)
_NATURAL = (0, None)

# All keys that some version of the adapter reads; what it does not know, it ignores. Those of
# adapters that are newer than `_RULES` are here with their kinds only.
OPTIONS = OrderedDict(
    [(key, Option('b', None)) for key in (
        'use_off_line', 'enable_data_pre_proc', 'mix_compile_mode', 'enable_dump',
        'enable_dump_debug', 'profiling_mode', 'dynamic_input', 'hcom_parallel',
        'hcom_multi_mode', 'is_tailing_optimization', 'frozen_variable', 'external_weight',
        'enable_compress_weight', 'enable_graph_parallel', 'in_out_pair_flag',
        'lower_functional_ops', 'variable_format_optimize', 'all_tensor_not_empty',
        'compile_dynamic_mode', 'input_batch_cpy', 'oo_constant_folding')]
    + [(key, Option('i', bounds)) for key, bounds in (
        ('iterations_per_loop', (1, None)), ('op_debug_level', _ANY),
        ('graph_run_mode', (None, 1)), ('dynamic_node_type', _ANY),
        ('enable_exception_dump', (0, 2)), ('deterministic', _ANY),
        ('session_device_id', _NATURAL), ('local_rank_id', (0, 7)), ('hccl_timeout', _ANY),
        ('op_wait_timeout', _ANY), ('op_execute_timeout', _ANY), ('graph_exec_timeout', _ANY),
        ('enable_small_channel', _ANY), ('atomic_clean_policy', _ANY),
        ('static_memory_policy', _ANY), ('event_sync_timeout', _ANY),
        ('stream_sync_timeout', _ANY), ('task_index', _ANY), ('topo_sorting_mode', _ANY),
        ('compile_hybrid_mode', _ANY), ('export_compile_stat', _ANY),
        ('graph_max_parallel_model_num', _ANY), ('input_fusion_size', _ANY),
        ('variable_use_1g_huge_page', _ANY))]
    + [(key, Option('s', legal)) for key, legal in (
        ('precision_mode', ('allow_fp32_to_fp16', 'force_fp16', 'force_fp32',
                            'cube_fp16in_fp32out', 'must_keep_origin_dtype', 'allow_mix_precision',
                            'allow_mix_precision_fp16', 'allow_mix_precision_bf16',
                            'allow_fp32_to_bf16')),
        ('precision_mode_v2', ('fp16', 'origin', 'cube_fp16in_fp32out', *_MIXED_V2)),
        ('op_select_implmode', ('high_precision', 'high_performance', 'high_precision_for_all',
                                'high_performance_for_all')),
        ('dump_mode', ('input', 'output', 'all')),
        ('dump_debug_mode', ('aicore_overflow', 'atomic_overflow', 'all')),
        ('dump_data', ('tensor', 'stats')),
        ('dynamic_graph_execute_mode', ('dynamic_execute', 'lazy_recompile')),
        ('buffer_optimize', ('l2_optimize', 'off_optimize')))]
    + [(key, Option('s', None)) for key in (
        'auto_tune_mode', 'op_compiler_cache_mode', 'variable_placement', 'modify_mixlist',
        'op_precision_mode', 'optypelist_for_implmode', 'fusion_switch_file',
        'dump_path', 'dump_step', 'dump_layer', 'op_debug_config', 'debug_dir',
        'profiling_options', 'aoe_mode', 'mstune_mode', 'work_path', 'dynamic_inputs_shape_range',
        'input_shape', 'dynamic_dims', 'graph_memory_max_size', 'variable_memory_max_size',
        'stream_max_parallel_num', 'enable_scope_fusion_passes', 'op_compiler_cache_dir',
        'customize_dtypes', 'local_device_list', 'HCCL_algorithm', 'memory_optimization_policy',
        'soc_config', 'jit_compile', 'ac_parallel_enable', 'aoe_config_file',
        'compress_weight_conf', 'const_input', 'device_type', 'distribute_config',
        'es_cluster_config', 'experimental_accelerate_train_mode',
        'experimental_logical_device_cluster_deploy_mode', 'experimental_logical_device_id',
        'experimental_model_deploy_devicelist', 'experimental_model_deploy_mode',
        'graph_compiler_cache_dir', 'graph_parallel_option_path', 'graph_slice', 'in_out_pair',
        'insert_op_file', 'job', 'resource_config_path', 'aicore_num',
        'auto_multistream_parallel_mode', 'oo_level', 'optimization_switch', 'quant_dumpable',
        'shape_generalization_mode')])

# Options that are only looked at if another one is on.
_LOOKED_AT_WITH = {'dump_mode': 'enable_dump', 'dump_debug_mode': 'enable_dump_debug',
                   'dynamic_graph_execute_mode': 'dynamic_input'}
# Options whose values older adapters pass on unchecked.
_CHECKED_LATE = 'enable_exception_dump', 'dump_data'


class _Rules(NamedTuple):
    """What versions of the adapter differ in."""

    jit_compile: Any           # a bool ('b'), one of these texts, or no key (None)
    mixlist: tuple             # values of precision_mode and _v2 that modify_mixlist goes with
    aoe: Any                   # legal values of aoe_mode; None: any
    checks_precision: bool     # whether values of precision_mode are looked at
    checks_all: bool           # whether those of _CHECKED_LATE are


_TEXTS = 'true', 'false', 'auto'
_OLDER_MIXED, _MIXED = (_MIXED_V1[:1], ()), (_MIXED_V1, _MIXED_V2)
_OLDER_AOE, _AOE = ('1', '2', '3', '4'), ('1', '2', '4', 'mdat')
_RULES = OrderedDict([
    ('development', _Rules(None, _OLDER_MIXED, None, False, False)),
    ('r1.5', _Rules(None, _OLDER_MIXED, _OLDER_AOE, False, False)),
    ('r1.8', _Rules(None, _OLDER_MIXED, _OLDER_AOE, False, False)),
    ('r1.9', _Rules(None, _OLDER_MIXED, _OLDER_AOE, False, False)),
    ('r1.10', _Rules('b', _OLDER_MIXED, _OLDER_AOE + ('mdat',), False, False)),
    ('r1.11', _Rules('b', _MIXED, _AOE, False, False)),
    ('r1.12', _Rules(None, _OLDER_MIXED, _AOE, True, False)),
    ('r1.13', _Rules(_TEXTS, _MIXED, _AOE, True, True)),
    ('r1.14', _Rules(_TEXTS, _MIXED, _AOE, True, True)),
    ('r1.15', _Rules(_TEXTS, _MIXED, _AOE, True, True)),
    ('r2.1', _Rules(None, _OLDER_MIXED, _AOE, True, False)),
    ('r3.1', _Rules(None, _OLDER_MIXED, _AOE, True, False)),
    ('r3.2', _Rules(('True', 'False', 'Auto'), _OLDER_MIXED, _AOE, True, True)),
    ('master', _Rules(_TEXTS, _MIXED, _AOE, True, True))])
ADAPTER_VERSION = 'adapter_version'    # --npu_option that is none, but names the adapter
_chosen = {}


def choose_adapter_version(text):
    """Let options be checked as the adapter `text` does, such as 'r1.9', 'r1.9.0' or 'master'.

    Raises:
        UserError: not a known one.
    """
    match = re.fullmatch(r'(r[0-9]+\.[0-9]+)(?:\.[0-9]+)?', text)
    name = match[1] if match else text
    if name not in _RULES:
        raise UserError(f'--npu_option {ADAPTER_VERSION}={text}: unknown; choose from '
                        f'{", ".join(_RULES)}')
    _chosen['version'] = name


def adapter_versions():
    """The names of adapters whose rules hold for options, the likeliest first.

    That is the one chosen, or those that a loaded adapter can be; any, while one is there that is
    not loaded; the newest, where there is none.
    """
    if _chosen:
        return [_chosen['version']]
    if adapter_is_loaded():
        return _detected()
    return list(_RULES)[::-1] if is_installed() else ['master']


def _detected():
    """The versions that a loaded adapter can be, by what it has."""
    def module(name):
        try:
            return adapter_module(name)
        except (ImportError, ValueError):
            return None

    def parameters(function):
        try:
            return set(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            return set()
    hook, util, plugin, hccl = map(module, (
        'estimator.npu.npu_hook', 'estimator.npu.util', 'estimator.npu.npu_plugin',
        'hccl.hccl_ops'))
    if 'index' in parameters(getattr(hook, 'broadcast_global_variables', None)):
        return ['r1.5', 'development']
    if not hasattr(util, 'get_ranksize'):
        return ['r1.10'] if _takes_nothing(_float_status_ops()) else ['r1.9', 'r1.8']
    if not hasattr(plugin, 'is_inf_nan_enabled'):
        return ['r1.12', 'r1.11', 'r2.1', 'r3.1']
    if 'fusion' in parameters(getattr(hccl, 'allgather', None)):
        return ['r1.15', 'master']
    return ['r1.14', 'r1.13', 'r3.2']


def parse_option(text):
    """Return (key, value) of a `key=value` as --npu_option takes it.

    Raises:
        UserError: no such key, or a value of the wrong kind.
    """
    key, equals, value = text.partition('=')
    if not equals:
        raise UserError(f'--npu_option {text}: expected key=value')
    if key == ADAPTER_VERSION:
        return key, value
    if key not in OPTIONS:
        raise UserError(f'--npu_option {key}: unknown; choose from '
                        f'{", ".join([ADAPTER_VERSION, *OPTIONS])}')
    kind = OPTIONS[key].kind
    if key == 'jit_compile' and _RULES[adapter_versions()[0]].jit_compile == 'b':
        if value.lower() not in ('true', 'false'):
            warn(f'--npu_option {text}: adapter {adapter_versions()[0]} knows true and false only, '
                 'and takes any text for false')
            return key, value
        kind = 'b'
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

    They are legal if they are for one of `adapter_versions()`: what an adapter refuses, which may
    end the process, is refused, and nothing else.

    Raises:
        UserError: names the key.
    """
    for key, value in options.items():
        _check_kind(key, value)
    faults = [_fault(options, _RULES[version]) for version in adapter_versions()]
    if all(faults):
        raise UserError(f'NPU option {faults[0]}')
    for key in ('fusion_switch_file', 'modify_mixlist', 'op_precision_mode', 'op_debug_config'):
        if options.get(key) and not os.path.isfile(options[key]):
            raise UserError(f'NPU option {key}: {options[key]}: no such file')


def _check_kind(key, value):
    kinds = {'b': (bool,), 'i': (int,), 's': (str,)}[_option(key).kind]
    if key == 'jit_compile':    # it has been both
        kinds = bool, str
    if not isinstance(value, kinds) or isinstance(value, bool) and bool not in kinds:
        raise UserError(f'NPU option {key}: expected {kinds[-1].__name__}, got {value!r}')
    if OPTIONS[key].kind == 'i' and not -1 << 63 <= value < 1 << 63:
        raise UserError(f'NPU option {key}: {value} is not a number of 64 bits')


def _option(key):
    if key not in OPTIONS:
        raise UserError(f'NPU option {key}: unknown; choose from {", ".join(OPTIONS)}')
    return OPTIONS[key]


def _fault(options, rules):
    """What an adapter with these rules has against options, '' if nothing."""
    return next(filter(None, (
        *(_value_fault(key, options, rules) for key in options),
        _precision_fault(options, rules), _dump_fault(options), _aoe_fault(options, rules),
        _shape_fault(options), _pair_fault(options))), '')


def _value_fault(key, options, rules):
    """What is wrong with an option's value on its own."""
    kind, legal = OPTIONS[key]
    value = options[key]
    if key == 'jit_compile':
        return _jit_fault(value, rules)
    gate = _LOOKED_AT_WITH.get(key)
    if (legal is None or gate and not options.get(gate)
            or key in _CHECKED_LATE and not rules.checks_all
            or key == 'precision_mode' and not rules.checks_precision):
        return ''
    if kind == 'i':
        lowest, highest = legal
        if (lowest is not None and value < lowest) or (highest is not None and value > highest):
            return f'{key}: {value} is not between {lowest} and {highest}'
        return ''
    return '' if value in legal else f'{key}: {value!r}; choose from {", ".join(legal)}'


def _jit_fault(value, rules):
    # Where there is no such key it is ignored, where it is a bool text is read as false.
    if rules.jit_compile in (None, 'b'):
        return ''
    if not isinstance(value, str):
        return f'jit_compile: expected str, got {value!r}'
    return '' if value in rules.jit_compile else (
        f'jit_compile: {value!r}; choose from {", ".join(rules.jit_compile)}')


def _precision_fault(options, rules):
    mode, mode_v2 = options.get('precision_mode'), options.get('precision_mode_v2')
    if mode is not None and mode_v2 is not None:
        return 'precision_mode_v2: not together with precision_mode'
    if 'modify_mixlist' in options:
        keys = 'precision_mode', 'precision_mode_v2'
        key = next((key for key in keys if key in options), keys[0])    # which one is looked at
        if options.get(key) not in rules.mixlist[keys.index(key)]:
            wanted = ' or '.join(f'{key}={value}' for key, values in zip(keys, rules.mixlist)
                                 for value in values)
            return f'modify_mixlist: only with {wanted}, not with {key}={options.get(key, "")}'
    return ''


def _dump_fault(options):
    if (options.get('enable_dump') or options.get('enable_dump_debug')) and not options.get(
            'dump_path'):
        return 'dump_path: missing, enable_dump and enable_dump_debug need it'
    if not options.get('enable_dump') or 'dump_step' not in options:
        return ''
    text = options['dump_step']
    steps = [step.split('-') for step in text.split('|')]
    if not re.fullmatch(r'([0-9]+(-[0-9]+)?\|)+', f'{text}|') or len(steps) > 100:
        return f'dump_step: {text!r}; expected up to 100 steps such as 0|5|10-20'
    if any(len(step) == 2 and _atoi(step[0]) >= _atoi(step[1]) for step in steps):
        return (f'dump_step: {text!r}; the first step of a range is below the last, as numbers of '
                '32 bits')
    return ''


def _atoi(digits):
    """What C's atoi, by which adapters read steps, makes of a natural number."""
    highest = (1 << 63) - 1
    # Python reads no integers of thousands of digits.
    number = (min(int(digits[-20:]), highest) if not digits[:-20].strip('0') else highest
              ) & (1 << 32) - 1
    return number - (1 << 32) if number >> 31 else number


def _aoe_fault(options, rules):
    mode = options.get('aoe_mode', os.environ.get('AOE_MODE', ''))
    if not mode or rules.aoe is None:
        return ''
    if mode not in rules.aoe:
        return f'aoe_mode: {mode!r}; choose from {", ".join(rules.aoe)}'
    folder = options.get('work_path', './')
    if not os.path.isdir(folder) or not os.access(folder, os.R_OK | os.W_OK):
        return f'work_path: {folder!r}: no folder to read and write, which aoe_mode needs'
    return ''


def _shape_fault(options):
    shapes = 'input_shape', 'dynamic_dims', 'dynamic_node_type'
    found = [key for key in shapes if key in options]
    if found and len(found) < len(shapes):
        return f'{found[0]}: input_shape, dynamic_dims and dynamic_node_type go together'
    if found:
        for key, pattern, example in (
                ('input_shape', r'(\w+:(-?[0-9]+,)+;)+', 'x:-1,3;y:-1'),
                ('dynamic_dims', '(([0-9]+,)+;)+', '1;2;4')):
            text = options[key][:-1] if options[key].endswith(';') else options[key]
            text = ''.join(f'{each},;' for each in text.split(';'))
            if not re.fullmatch(pattern, text, re.ASCII):
                return f'{key}: {options[key]!r}; expected the form {example}'
        if options['dynamic_node_type'] not in (0, 1):
            return f'dynamic_node_type: {options["dynamic_node_type"]} is not between 0 and 1'
        if options.get('mix_compile_mode'):
            return 'mix_compile_mode: not with dynamic_dims'
    if (options.get('dynamic_input') and options.get('iterations_per_loop', 1) > 1
            and options.get('dynamic_graph_execute_mode') == 'lazy_recompile'):
        return 'dynamic_graph_execute_mode: lazy_recompile not with iterations_per_loop above 1'
    devices = options.get('local_device_list')
    if devices is not None and not re.fullmatch('([0-9]+,)+', f'{devices},'):
        return f'local_device_list: {devices!r}; expected numbers such as 0,1'
    return ''


def _pair_fault(options):
    if 'optypelist_for_implmode' in options and 'op_select_implmode' not in options:
        return 'optypelist_for_implmode: needs op_select_implmode'
    if 'enable_compress_weight' in options and 'compress_weight_conf' in options:
        return 'enable_compress_weight: not together with compress_weight_conf'
    return ''


def entry_options(entry):
    """Return {key: value} of a NpuOptimizer entry."""
    options = {}
    for key, value in entry.parameter_map.items():
        kind = value.WhichOneof('value') or _option(key).kind
        options[key] = (tf.compat.as_str(value.s) if kind == 's' else getattr(value, kind))
    return options


def update_entry(entry, options):
    """Set `options` in a NpuOptimizer entry, checked together with those it has."""
    check_options(dict(entry_options(entry), **options))
    for key, value in options.items():
        kind = 'b' if isinstance(value, bool) else OPTIONS[key].kind
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
    extra = _parsed(extra)
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
    if 'precision_mode_v2' in extra:    # which is instead of it
        del options['precision_mode']
    options.update(extra)
    check_options(options)
    return options


def inference_options(precision, extra=()):
    """Return the parameter_map values of a session that does not train; see `training_options`."""
    extra = tuple(extra)
    return training_options(precision, extra=('graph_run_mode=0', *extra))


def _parsed(texts):
    """OrderedDict of `key=value` texts; the adapter's version, if one tells it, is taken first."""
    _chosen.clear()
    for text in texts:
        if text.startswith(f'{ADAPTER_VERSION}='):
            choose_adapter_version(parse_option(text)[1])
    return OrderedDict(parse_option(text) for text in texts
                       if not text.startswith(f'{ADAPTER_VERSION}='))


def is_installed():
    """Whether an adapter for this TensorFlow can be imported, without importing it."""
    return importlib.util.find_spec(_adapter_name()) is not None


def _adapter_name():
    return 'npu_bridge' if tf.__version__.startswith('1.') else 'npu_device'


def adapter_module(name):
    """A module of the adapter, by its place in the package that is laid out alike in both."""
    root = 'npu_bridge' if _adapter_name() == 'npu_bridge' else 'npu_device.compat.v1'
    return importlib.import_module(f'{root}.{name}')


def load_adapter():
    """Import the adapter of this TensorFlow once; sessions run on the NPU from then on.

    Raises:
        UserError: it is not there, or CANN is not set up.
    """
    name = _adapter_name()
    try:
        adapter_module('npu_init')
        if name == 'npu_device':
            importlib.import_module(name).compat.enable_v1()
            # That disables v2 behaviour once more, and with it what tflib enabled after it.
            tf.enable_resource_variables()
    except (ImportError, ValueError) as error:
        # HCCL raises a ValueError if its library does not load.
        reason = (str(error).splitlines() or [''])[0]
        raise UserError(
            f'--device npu: looked for {name}, the adapter of CANN for TensorFlow '
            f'{"1.15" if name == "npu_bridge" else "2.6"} ({reason}); install CANN and its '
            'TensorFlow plug-in and source its set_env.sh, or take --device cpu or gpu') from None


def dump_config_class():
    """The adapter's `DumpConfig`, which settings of an estimator take; imports the adapter."""
    load_adapter()
    return adapter_module('estimator.npu.npu_config').DumpConfig


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
    if options.get('profiling_mode') and options.get('profiling_options'):
        folders += _profiling_folders(options['profiling_options'])
    for folder in folders:
        # The adapter refuses a session whose dump folder does not exist.
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise UserError(f'{folder}: {error.strerror}; choose another path for dumps') from None
        if not os.access(folder, os.W_OK):
            raise UserError(f'{folder}: not writable; choose another path for dumps')


def _profiling_folders(text):
    """The folder of profiles, as a list; none, and a warning, if the text does not tell it."""
    try:
        folder = json.loads(text).get('output', '.')
    except (ValueError, AttributeError, RecursionError):
        folder = None
    if not isinstance(folder, str):
        warn(f'NPU option profiling_options: {text[:60]!r} is no JSON object with an output '
             'folder, so none is made')
        return []
    return [folder]


def has_loss_scale_optimizer():
    """Whether the loaded adapter has Ascend's NPULossScaleOptimizer: that of TensorFlow 1.15."""
    return _adapter_name() == 'npu_bridge'


def loss_scale_optimizer(optimizer, start, fixed, skipped, count_skipped, is_distributed=False):
    """Return (NPULossScaleOptimizer, its manager, which has `scale` and `skipped` too).

    Args:
        start: initial scale; fixed: whether it stays so; skipped: int64 variable; count_skipped:
            function of the variable and a bool scalar that returns the operation which counts.
        is_distributed: an overflow on one of the devices that train together counts on all.
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
    return optimizers.NPULossScaleOptimizer(optimizer, manager, is_distributed), manager


def no_overflow(gradients):
    """Bool scalar: whether the device has seen no overflow, by its sticky status register.

    The register is read when all gradients are there and cleared after that, for the next update.
    For the adapter for TensorFlow 2, which has no NPULossScaleOptimizer.
    """
    if _keeps_infinities():
        return tf.constant(True)
    ops = _float_status_ops()
    gradients = [gradient for gradient in gradients if gradient is not None]
    if not _takes_nothing(ops) and hasattr(ops, 'npu_alloc_float_status'):
        # As the adapter's own optimizer did then: `get` writes to the memory that is compared.
        memory = ops.npu_alloc_float_status()
        with tf.control_dependencies(gradients):
            cleared = ops.npu_clear_float_status(ops.npu_get_float_status(memory))
        return tf.reduce_all(tf.equal(memory, cleared))
    with tf.control_dependencies(gradients):
        status = (ops.npu_get_float_status_v2() if _takes_nothing(ops) else
                  ops.npu_get_float_status_v2(addr=[tf.cast(each, tf.float32)
                                                    for each in gradients]))
    with tf.control_dependencies([status]):
        cleared = ops.npu_clear_float_status_v2()
    with tf.control_dependencies([cleared]):
        return tf.reduce_all(tf.equal(status, 0))


def _float_status_ops():
    """The adapter's library of operations."""
    if _adapter_name() == 'npu_device':
        return importlib.import_module('npu_device').gen_npu_ops
    return importlib.import_module('npu_bridge.helper.helper').get_gen_ops()


def _takes_nothing(ops):
    """Whether the second version of the status operation is there, and as from r1.10 on."""
    function = getattr(ops, 'npu_get_float_status_v2', None)
    return function is not None and 'addr' not in inspect.signature(function).parameters


def _keeps_infinities():
    """Whether the device computes infinities and NaN, and so has no overflow to report."""
    places = [importlib.import_module(_adapter_name())]
    with contextlib.suppress(ImportError):
        places.append(adapter_module('estimator.npu.npu_plugin'))
    functions = [getattr(place, 'is_inf_nan_enabled', None) for place in places]
    return any(function() for function in functions if function)


@contextlib.contextmanager
def float32_scope():
    """Operations built in this block, or function, stay float32 when an NPU mixes precisions.

    Without a loaded adapter nothing happens; `utils.FLOAT32_ISLANDS` does the same elsewhere.
    """
    with _scope('keep_dtype_scope'):
        yield


@contextlib.contextmanager
def host_scope():
    """Operations built in this block, or function, stay on the host.

    Without a loaded adapter nothing happens.
    """
    with _scope('without_npu_compile_scope'):
        yield


def _scope(name):
    if not adapter_is_loaded():
        return contextlib.nullcontext()
    return getattr(adapter_module('estimator.npu.npu_scope'), name)()
