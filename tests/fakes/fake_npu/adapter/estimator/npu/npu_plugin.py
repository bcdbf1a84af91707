"""Stands for the calls into the device's runtime."""

from fake_npu import recorder


def npu_resource_init(graph_run_mode=1, op_debug_level=0, enable_profiling=False,
                      profiling_options=None, precision_mode=None, **options):
    recorder.resource = True
    recorder.note('npu_resource_init', graph_run_mode=graph_run_mode,
                  op_debug_level=op_debug_level, enable_profiling=enable_profiling,
                  profiling_options=profiling_options, precision_mode=precision_mode, **options)


def npu_resource_shutdown():
    recorder.resource = False
    recorder.note('npu_resource_shutdown')


def npu_close():
    """The real adapter also calls this when the process ends."""
    recorder.note('npu_close')


if recorder.version == 'r1.15':
    def set_device_sat_mode(mode):
        """0: saturate and raise the overflow flag. 1: keep infinities and NaN, no flag."""
        recorder.note('set_device_sat_mode', mode=mode)
        recorder.inf_nan = mode == 1

    def is_inf_nan_enabled():
        return recorder.is_inf_nan()
