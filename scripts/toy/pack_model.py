"""Pack a trained toy model and its classifier: what editing and judging need, and the curve.

Writes toy/ (setting.txt, a checkpoint of the generator, metrics.jsonl thinned) and toy_classifier/
(classifier.json, test_accuracy.json, a checkpoint without optimizer state).

Examples:
    python scripts/toy/pack_model.py --experiment_name toy \\
        --classifier output/toy_classifier --output_dir output/models
"""

import dataclasses
import functools
import glob
import os
import shutil
import tempfile

import numpy as np

if not __package__:
    import _checkout

from pylib import (
    ArgumentParser,
    UserError,
    append_json_line,
    atomic_folder,
    read_json_lines,
    require_new_folder,
    run_command,
)
from stgan.config import CHECKPOINTS, EXPERIMENT, METRICS, experiment_folder, load_config

POINTS = 200    # of the curve
DATA = os.path.join('data', 'toy')    # where the documents draw faces; another place may be gone


def thinned(records, points=POINTS):
    """Means of `points` equally long stretches of a log, each under its last iteration."""
    stretch = max(1, len(records) // points)
    for start in range(0, len(records) - stretch + 1, stretch):
        part = records[start:start + stretch]
        means = {name: float(f'{np.mean([record[name] for record in part]):.5g}')
                 for name, value in part[-1].items() if isinstance(value, float)}
        yield {**part[-1], **means, 'lr': part[-1]['lr']}


def pack_experiment(experiment, folder, others=()):
    """Write the slim copy of an experiment into a new folder.

    Args:
        others: experiments whose weights are averaged with its own, as those of one training at
            several times may be: Izmailov et al., "Averaging Weights Leads to Wider Optima and
            Better Generalization", 2018.
    """
    from stgan import export
    from tflib import checkpoint

    config, _ = load_config(experiment)
    config = dataclasses.replace(config, experiment_name='toy', dataroot=DATA)
    paths = [checkpoint.require_latest(os.path.join(each, CHECKPOINTS))
             for each in (experiment, *others)]
    with tempfile.TemporaryDirectory() as temporary:
        path = _averaged(paths, temporary) if others else paths[0]
        export.write_slim(folder, config, path, export.Example(config, path))
    with open(os.path.join(folder, METRICS), 'w', encoding='utf-8') as stream:
        for record in thinned(read_json_lines(os.path.join(experiment, METRICS))):
            append_json_line(stream, record)


def _averaged(paths, folder):
    """Path of a checkpoint, written to a folder, with the mean of several generators' weights."""
    from stgan.models import GENERATOR_SCOPES
    from tflib import checkpoint, tf, utils

    with tf.Graph().as_default(), utils.session('cpu') as session:
        weights = [checkpoint.tensors(path, GENERATOR_SCOPES) for path in paths]
        for name in weights[0]:
            mean = tf.add_n([each[name] for each in weights]) / len(weights)
            tf.get_variable(name, initializer=mean)
        session.run(tf.global_variables_initializer())
        return checkpoint.Checkpoints(folder, keep=1).save(session, os.path.basename(paths[0]))


def pack_classifier(trained, folder):
    """Write the slim copy of what att_classification/train.py wrote into a new folder."""
    from tflib import checkpoint, tf, utils

    path = checkpoint.require_latest(os.path.join(trained, CHECKPOINTS))
    with tf.Graph().as_default(), utils.session('cpu') as session:
        for name, value in checkpoint.tensors(path, ('classifier',)).items():
            tf.get_variable(name, initializer=value)
        session.run(tf.global_variables_initializer())
        checkpoints = checkpoint.Checkpoints(os.path.join(folder, CHECKPOINTS), keep=1)
        checkpoints.save(session, os.path.basename(path))
    for below in ('', CHECKPOINTS):    # what it predicts, and how well
        for source in glob.glob(os.path.join(glob.escape(os.path.join(trained, below)), '*.json')):
            shutil.copy(source, os.path.join(folder, below))


def main():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--experiment_name', required=True, help=EXPERIMENT)
    add('--average_with', nargs='+', default=[], metavar='NAME',
        help='experiments whose weights to average with those; default: none')
    add('--classifier', required=True, metavar='DIR',
        help='folder that att_classification/train.py wrote')
    add('--output_dir', required=True, metavar='DIR', help='where toy/ and toy_classifier/ go')
    args = parser.parse_args()
    others = list(map(experiment_folder, args.average_with))
    for source in others:
        load_config(source)
    pack_toy = functools.partial(pack_experiment, others=others)
    for source, name, pack in ((experiment_folder(args.experiment_name), 'toy', pack_toy),
                               (args.classifier, 'toy_classifier', pack_classifier)):
        if not os.path.isdir(source):
            raise UserError(f'{source}: no such folder')
        path = os.path.join(args.output_dir, name)
        require_new_folder(path, '--output_dir')
        os.makedirs(args.output_dir, exist_ok=True)
        with atomic_folder(path) as temporary:
            pack(source, temporary)
        size = sum(os.path.getsize(os.path.join(below, name)) for below, _, names in os.walk(path)
                   for name in names)
        print(f'wrote {path} ({size / 1e6:.1f} MB)')


if __name__ == '__main__':
    run_command(main)
