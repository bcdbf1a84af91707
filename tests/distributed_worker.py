"""train.py that also writes what all variables are after each checkpoint, in every worker.

Usage: distributed_worker.py DUMPS OPTIONS_OF_TRAIN; the files are DUMPS/<rank>-<iteration>.npz.
DISTRIBUTED_NAN=<rank>-<iteration> in the environment lets one worker see a black image with a NaN.
"""

import os
import sys

if __name__ == '__main__':
    ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[0] = ROOT

    from pylib import run_command

    def disturb(loop, tf):
        """A NaN among the weights of one worker, once, which its next update meets."""
        broken = os.environ.get('DISTRIBUTED_NAN')
        iterate, todo = loop._Run.iterate, [broken]

        def iterate_disturbed(run):
            if todo[0] == f'{run._workers.rank}-{run.iteration + 1}':
                todo[0] = None
                weight = next(v for v in tf.trainable_variables() if v.op.name.startswith('Genc'))
                run._session.run(weight.initializer)
                weight.load(run._session.run(weight) * float('nan'), run._session)
            iterate(run)
        loop._Run.iterate = iterate_disturbed

    def main():
        import numpy as np  # noqa: PLC0415

        from stgan import config, loop, training  # noqa: PLC0415
        from tflib import tf  # noqa: PLC0415

        folder = sys.argv.pop(1)
        save = loop._Run.save_what_is_due

        def save_and_dump(run, stopping):
            save(run, stopping)
            if stopping or run._schedule.saves(run.iteration):
                values = run._session.run({v.op.name: v for v in tf.global_variables()})
                np.savez(os.path.join(folder, f'{run._workers.rank}-{run.iteration}.npz'), **values)
        loop._Run.save_what_is_due = save_and_dump
        disturb(loop, tf)
        options, others = config.parse_training(__doc__)
        training.run(options, **others)
    run_command(main)
