"""TensorBoard scalars."""

import os
import socket
import time

from pylib import RunFailed
from tflib import tf, utils


class ScalarWriter:
    """Writes numbers as TensorBoard scalars.

    tf.summary.FileWriter would do it in a thread, where a full disk is not noticed (1.15) or ends
    in a traceback (2.x).

    Args:
        folder: of the event files.
        start: what earlier event files hold from this step on is discarded by TensorBoard.

    Raises:
        RunFailed: from all functions, if the file cannot be written.
    """

    def __init__(self, folder, start=0):
        # TensorBoard reads in the order of names, in which the time leads.
        self._path = os.path.join(folder, f'events.out.tfevents.{time.time():.6f}.'
                                          f'{socket.gethostname()}.{os.getpid()}')
        self._do(tf.gfile.MakeDirs, folder)
        self._writer = self._do(tf.io.TFRecordWriter, self._path)
        self._add(file_version='brain.Event:2')
        if start:
            self._add(session_log=tf.SessionLog(status=tf.SessionLog.START), step=start)

    def _do(self, function, *arguments):
        try:
            return function(*arguments)
        except (tf.errors.OpError, OSError, IndexError) as error:
            raise RunFailed(f'{self._path}: could not be written ({utils.reason(error)}); '
                            'free or repair the disk, then repeat the command') from None

    def _add(self, **fields):
        event = tf.Event(wall_time=time.time(), **fields)
        self._do(self._writer.write, event.SerializeToString())
        self._do(self._writer.flush)    # readers can follow

    def write(self, scalars, step):
        """Write {tag: number} at a step."""
        self._add(step=step, summary=tf.Summary(value=[
            tf.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]))

    def close(self):
        """Close the event file."""
        self._do(self._writer.close)
