"""Devices and sessions."""

import os

from pylib import UserError, in_command, usable_cores
from tflib import collective, npu, quiet_native_code, tf

try:
    from importlib import metadata
except ImportError:  # Python 3.7
    import importlib_metadata as metadata

# Any of these provides the module `tensorflow`; installed together they overwrite each other.
DISTRIBUTIONS = ('tensorflow', 'tensorflow-cpu', 'tensorflow-gpu', 'intel-tensorflow',
                 'tensorflow-rocm', 'tensorflow-macos')

# Operation types that a mixed-precision rewrite leaves in float32: statistics of norms, norms of
# gradients, losses. Convolutions, products and what stands between them go to 16 bits.
FLOAT32_ISLANDS = 'Abs,Mean,Rsqrt,Sqrt,Square,SquaredDifference,Sum'

# Without it TensorFlow leaves XLA to GPUs.
_XLA_ON_CPUS = '--tf_xla_cpu_global_jit'


def select_gpus(gpus):
    """Hide all GPUs but these ('0', '1,2', ...; 'all': hide none). Call before any session."""
    if gpus != 'all':
        os.environ['CUDA_VISIBLE_DEVICES'] = gpus


def resolve_device(device):
    """Return 'npu', 'gpu' or 'cpu'; 'auto' takes the first of them that is there.

    An NPU's adapter is imported here, and only if an NPU is asked for or found.

    Raises:
        UserError: the device asked for is not there.
    """
    if device == 'cpu' and in_command():
        # No session of ours takes them then, but tf.data does, to which sessions mean nothing.
        select_gpus('-1')
    # For the CPU too: who looks for GPUs first makes 2.x complain of absent CUDA libraries.
    with quiet_native_code():
        gpus = tf.config.experimental.list_physical_devices('GPU')
    if device == 'auto':
        device = 'npu' if npu.is_installed() else 'gpu' if gpus else 'cpu'
    if device == 'npu':
        npu.load_adapter()
    if device == 'gpu' and not gpus:
        raise UserError(f'--device gpu: {tensorflow_version()} sees no GPU; check driver and CUDA '
                        'libraries (TF_CPP_MIN_LOG_LEVEL=0 shows what is missing) or take '
                        '--device cpu')
    return device


def session_config(device, precision='high', threads=-1, npu_options=None, optimize=True,
                   xla=False):
    """Return the ConfigProto of every session of this project.

    Args:
        device: 'cpu', 'gpu' or 'npu'.
        precision: 'high': float32; on NPUs what `npu.training_options` says. 'tf32': float32 with
            products and convolutions in TF32, on GPUs. 'mixed': 16 bits where it is safe, by a
            rewrite of the graph.
        threads: threads within and between operations; -1: the cores this process may use.
        npu_options: values of NpuOptimizer's parameter_map; None: those of inference.
        optimize: False: on CPUs in high precision run graphs as they were built, not as TensorFlow
            rewrites them. The first run then starts sooner; training would be slower.
        xla: let XLA compile clusters of operations.

    Raises:
        UserError: an illegal NPU option, or a precision that the device does not have.
    """
    if precision == 'tf32' and device != 'gpu':
        raise UserError('--precision tf32: only GPUs compute in TF32, and this runs on the '
                        f'{device.upper()}; take --precision high')
    threads = threads if threads > 0 else usable_cores()
    config = tf.ConfigProto(intra_op_parallelism_threads=threads,
                            inter_op_parallelism_threads=threads,
                            allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    if xla:
        if device == 'npu':
            raise UserError('--xla: compiles for GPUs and CPUs; NPUs have a compiler of their own')
        if device == 'cpu' and _XLA_ON_CPUS not in os.environ.get('TF_XLA_FLAGS', ''):
            raise UserError(f'--xla: on CPUs needs TF_XLA_FLAGS={_XLA_ON_CPUS} in the environment, '
                            'before TensorFlow is loaded; it is made for GPUs')
        config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
    rewrite = config.graph_options.rewrite_options
    # On 2.x the remapper fuses batch norm with tanh, which has no kernel (stu_norm='bn'), and
    # logs an error for each gradient of a leaky ReLU.
    rewrite.remapping = rewrite.OFF
    if device == 'npu':
        if npu_options is None:
            npu_options = npu.inference_options(precision)
        npu.add_to_config(config, npu_options)
        return config
    if device == 'cpu':
        config.device_count['GPU'] = 0
        if npu.adapter_is_loaded():
            # The adapter makes every session an NPU session, unless told to leave it alone.
            npu.add_to_config(config, {'use_off_line': False})
        rewrite.disable_meta_optimizer = not optimize and precision == 'high'
    if precision == 'mixed':
        _rewrite_to_16_bits(rewrite, device)
    return config


def _rewrite_to_16_bits(rewrite, device):
    """Let the graph be rewritten to float16 (GPU) or bfloat16 (CPU), norms and losses excepted."""
    # Names since TensorFlow 2.4, and before. A type on two lists makes the rewrite do nothing.
    for change in ('DENYLIST_ADD', 'ALLOWLIST_REMOVE', 'INFERLIST_REMOVE', 'CLEARLIST_REMOVE',
                   'BLACKLIST_ADD', 'WHITELIST_REMOVE', 'GRAYLIST_REMOVE'):
        os.environ.setdefault(f'TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_{change}', FLOAT32_ISLANDS)
    if device == 'gpu':
        rewrite.auto_mixed_precision = rewrite.ON
    elif 'auto_mixed_precision_onednn_bfloat16' in rewrite.DESCRIPTOR.fields_by_name:
        rewrite.auto_mixed_precision_onednn_bfloat16 = rewrite.ON
    else:
        raise UserError(f'--precision mixed: {tensorflow_version()} has no 16-bit convolutions on '
                        'CPUs; take --precision high, or Python 3.9 or later with its newest '
                        'TensorFlow')


def session(device='cpu', threads=-1, graph=None, precision='high', npu_options=None,
            optimize=True, xla=False, workers=None):
    """Open a session on `graph` (default: the current graph); see `session_config`.

    Args:
        workers: those that train together, see `engines.joined`; None: this process is alone.
    """
    config = session_config(device, precision, threads, npu_options, optimize, xla)
    if device == 'npu':
        npu.prepare_session(config)
    if device == 'gpu':
        _allow_tf32(precision != 'high')
    return (workers or collective.Alone()).session(config, graph)


def _allow_tf32(allowed):
    """Let GPUs compute float32 products and convolutions in TF32, or not.

    From Ampere on they do unless told otherwise, with relative errors near 3e-4. TensorFlow has one
    switch for all sessions: what opens the last one decides.
    """
    if hasattr(tf.config.experimental, 'enable_tensor_float_32_execution'):
        tf.config.experimental.enable_tensor_float_32_execution(allowed)
    elif not allowed:    # TensorFlow before 2.4: what CUDA's libraries look for as they are loaded
        os.environ.setdefault('NVIDIA_TF32_OVERRIDE', '0')


def describe_precision(device, precision):
    """A precision and what it is on a device, e.g. 'high (float32)'."""
    if device == 'npu':
        return precision    # what it is there, NpuOptimizer's options tell
    bits = 'float16' if device == 'gpu' else 'bfloat16'
    return precision + {'high': ' (float32)', 'tf32': ' (float32, products in TF32)',
                        'mixed': f' ({bits} where that is safe)'}[precision]


def describe_session(config, device, precision):
    """Return lines that tell what `session_config` resolved to."""
    rewrite = config.graph_options.rewrite_options
    lines = [f'device        {device}', f'precision     {describe_precision(device, precision)}',
             f'TensorFlow    {tensorflow_version()}',
             f'threads       {config.intra_op_parallelism_threads} within, '
             f'{config.inter_op_parallelism_threads} between operations']
    rewrites = [name for name in sorted(rewrite.DESCRIPTOR.fields_by_name)
                if name.startswith('auto_mixed_precision') and getattr(rewrite, name)]
    lines += [f'rewrite       {name}; float32: {FLOAT32_ISLANDS}' for name in rewrites]
    if config.graph_options.optimizer_options.global_jit_level == tf.OptimizerOptions.ON_1:
        lines.append('XLA           compiles clusters of operations')
    options = npu.options_in(config)
    if options is not None:
        lines += [f'adapter       rules of {", ".join(npu.adapter_versions())}',
                  'NpuOptimizer  remapping off, memory_optimization off']
        lines += [f'  {key} = {value}' for key, value in options.items()]
    return lines


def tensorflow_version():
    """Name and version of the TensorFlow distribution that runs, e.g. 'tensorflow 1.15.5'."""
    installed = []
    for name in DISTRIBUTIONS:
        try:
            installed.append(f'{name} {metadata.version(name)}')
        except metadata.PackageNotFoundError:
            continue
    return ' + '.join(installed) or f'TensorFlow {tf.__version__}'


def reason(error):
    """Why the system or a TensorFlow operation failed, in one line without the path."""
    if getattr(error, 'strerror', None):
        return error.strerror
    # 2.x says first, and both say last, where in the graph that was.
    text, _, place = str(error).partition('\n\t [[')
    lines = text.splitlines() or [type(error).__name__]
    return lines[-1 if place else 0].rpartition('; ')[2]


def minimize(optimizer, loss, variables, reported, average=list):
    """Return the operation of an optimizer step that waits for all that reads the variables.

    Within a session run a variable may be read before or after its update. A gradient may not need
    all values that the loss is made of, so the loss reported would differ from run to run.

    Args:
        optimizer: with compute_gradients() and apply_gradients().
        loss: scalar; variables: what it is minimized by.
        reported: tensors that are to be computed from the variables as they are before the step.
        average: function from the list of gradients to those that the step takes.
    """
    # Without those that the loss does not depend on: not every optimizer takes a gradient of None.
    pairs = [(gradient, variable) for gradient, variable in
             optimizer.compute_gradients(loss, variables) if gradient is not None]
    gradients = average([gradient for gradient, _ in pairs])
    pairs = [(gradient, variable) for gradient, (_, variable) in zip(gradients, pairs)]
    with tf.control_dependencies(gradients + list(reported)), npu.float32_scope():
        return optimizer.apply_gradients(pairs)


def iteration_counter():
    """The int64 variable `counter/counter`, as the published code names it."""
    with tf.variable_scope('counter'):
        return tf.get_variable('counter', [], tf.int64, tf.zeros_initializer(), trainable=False)


def trainable_variables(*scopes):
    """Trainable variables of the given top scopes, e.g. trainable_variables('D', 'G')."""
    return [v for v in tf.trainable_variables() if v.op.name.split('/')[0] in scopes]
