"""TensorBoard scalars."""

from tflib import tf


class ScalarWriter:
    """Writes numbers as TensorBoard scalars.

    Args:
        folder: of the event files.
        start: what earlier event files hold from this step on is discarded by TensorBoard.
    """

    def __init__(self, folder, start=0):
        self._writer = tf.summary.FileWriter(folder)
        if start:
            log = tf.SessionLog(status=tf.SessionLog.START)
            self._writer.add_session_log(log, start)

    def write(self, scalars, step):
        """Write {tag: number} at a step."""
        self._writer.add_summary(tf.Summary(value=[
            tf.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]), step)

    def close(self):
        """Flush and close the event file."""
        self._writer.close()
