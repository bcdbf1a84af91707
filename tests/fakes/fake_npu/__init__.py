"""What the fake Ascend packages share: one recorder, the device ops, and the adapter's modules.

Adding `tests/fakes/npu_bridge_path` (TF 1 adapter) or `tests/fakes/npu_device_path` (TF 2 adapter)
to sys.path is enough to import a fake; importing it adds `tests/fakes` itself, so that a test can
say `from fake_npu import recorder`.

`adapter/` is the tree below `npu_bridge`, which the TF 2 adapter repeats as `npu_device.compat.v1`.
It becomes part of a package through the package's `__path__`: each has its own copies of the
modules, as the real ones have. `tf1_only/` is what only `npu_bridge` has.
"""

from fake_npu.recording import Recorder

recorder = Recorder()
