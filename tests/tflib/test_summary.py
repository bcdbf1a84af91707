"""TensorBoard scalars."""

import resource

import pytest

from pylib import RunFailed
from tflib import tf
from tflib.summary import ScalarWriter


def events(folder):
    (path,) = folder.iterdir()
    return list(tf.train.summary_iterator(str(path)))


def test_scalars_are_read_back(tmp_path):
    writer = ScalarWriter(str(tmp_path), start=3)
    writer.write({'D/gp': 1.5}, 4)
    version, mark, scalar = events(tmp_path)    # before it is closed
    writer.close()
    assert version.file_version == 'brain.Event:2'
    assert (mark.step, mark.session_log.status) == (3, tf.SessionLog.START)
    assert scalar.step == 4 and scalar.wall_time > 1e9
    assert [(v.tag, v.simple_value) for v in scalar.summary.value] == [('D/gp', 1.5)]


def test_a_full_disk_is_an_error_at_once(tmp_path):
    writer = ScalarWriter(str(tmp_path))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
    try:
        with pytest.raises(RunFailed, match='events.out.* could not be written .File too large'):
            for step in range(100):
                writer.write({'x': 1.}, step)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, [resource.RLIM_INFINITY] * 2)
