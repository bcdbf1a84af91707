"""Trained generators for inference elsewhere."""

import os

from stgan.config import CHECKPOINTS
from stgan.editing import EditGraph
from stgan.models import GENERATOR_SCOPES
from tflib import checkpoint, tf, utils


def write_slim(folder, config, checkpoint_path):
    """Make an experiment folder that holds what editing needs: setting.txt and G's weights.

    Args:
        folder: a new folder; config: the experiment's `RunConfig`.
        checkpoint_path: path prefix of the weights.

    Returns:
        the path prefix of the checkpoint in it.
    """
    with tf.Graph().as_default(), utils.session('cpu') as session:
        EditGraph(config)
        checkpoint.restore(session, checkpoint_path, tf.global_variables(), GENERATOR_SCOPES)
        checkpoints = checkpoint.Checkpoints(os.path.join(folder, CHECKPOINTS), keep=1)
        config.save(folder)
        return checkpoints.save(session, os.path.basename(checkpoint_path))
