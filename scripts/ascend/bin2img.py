"""Turn the results of an offline model into the sheets that test.py writes.

Reads what img2bin.py wrote (--bin_dir) and msame's results `<k>_<i>_output_0.bin`, raw float32
[S,S,3] in [-1,1] (--result_dir: the folder with a time in its name that msame makes).

Examples:
    python scripts/ascend/bin2img.py --bin_dir output/128/bins \\
        --result_dir output/128/msame/20240131_120000 \\
        --output_dir output/128/offline/sheets
"""

import os
from collections import OrderedDict
from typing import List, NamedTuple

import numpy as np

if not __package__:
    import _checkout

import imlib
from pylib import ArgumentParser, UserError, progress, read_json, run_command
from scripts.ascend.img2bin import DESCRIPTION, base_name
from stgan import sheets
from stgan.pb import INPUTS


class Experiment(NamedTuple):
    """What a plan needs to know of an experiment, see `stgan.config.RunConfig`."""
    atts: List[str]
    thres_int: float


class Bins:
    """A folder that img2bin.py wrote.

    Attributes:
        path: the folder; img_size; columns: what each variant shows (`sheets.Column`).
        settings: dict of what goes into sheet.json.
        labels: OrderedDict of sheet file name -> (image file name, {0,1} labels int64 [n_att]).

    Raises:
        UserError: no bins.json, or one that is not as expected.
    """

    def __init__(self, path):
        self.path = path
        description = os.path.join(path, DESCRIPTION)
        if not os.path.exists(description):
            raise UserError(f'{description}: missing; run img2bin.py, to its end')
        stored = read_json(description)
        try:
            self._read(stored)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f'{description}: not as img2bin.py writes it '
                            f'({type(error).__name__}: {error}); run it again') from None

    def _read(self, stored):
        atts = [str(name) for name in stored['attributes']]
        self.img_size = int(stored['img_size'])
        thres_int = float(stored['thres_int'])
        plan = sheets.single_plan(Experiment(atts, thres_int), float(stored['test_int']))
        self.columns = plan.columns
        # Those of test.py and one more, so that its sheets do not pass for an offline model's.
        self.settings = OrderedDict(
            mode=plan.mode, img_size=self.img_size, attributes=atts, thres_int=thres_int,
            checkpoint=stored['checkpoint'], weights=stored['weights'], chosen=stored['chosen'],
            inference='offline')
        self.labels = OrderedDict()
        for entry in stored['images']:
            label = np.array(entry['labels'], np.int64)
            if label.shape != (len(atts),) or not set(label) <= {0, 1}:
                raise ValueError(f'labels of {entry["sheet"]}')
            if os.path.basename(entry['sheet']) != entry['sheet']:
                raise ValueError(f'sheet {entry["sheet"]}')
            self.labels[entry['sheet']] = str(entry['image']), label

    def read_image(self, path):
        """Return a raw image float32 [S,S,3].

        Raises:
            UserError: missing, of another size, or with values that are not finite.
        """
        size = self.img_size
        expected = size * size * 3 * 4
        try:
            values = np.fromfile(path, np.uint8)
        except OSError as error:
            raise UserError(f'{path}: {error.strerror}; did the model run for all bins?') from None
        if values.nbytes != expected:
            raise UserError(f'{path}: {values.nbytes} bytes, expected {expected} (float32 '
                            f'{size}x{size}x3)')
        image = values.view(np.float32).reshape(size, size, 3)
        if not np.isfinite(image).all():
            raise UserError(f'{path}: has values that are not finite')
        return image

    def read(self, number, result_dir):
        """Return (source [S,S,3], results [E,S,S,3]) of image `number`."""
        source = os.path.join(self.path, INPUTS[0], base_name(number, 0) + '.bin')
        results = [os.path.join(result_dir, base_name(number, variant) + '_output_0.bin')
                   for variant in range(len(self.columns))]
        return self.read_image(source), np.stack([self.read_image(path) for path in results])


def main():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--bin_dir', required=True, metavar='DIR', help='folder that img2bin.py wrote')
    add('--result_dir', required=True, metavar='DIR', help='folder of the results')
    add('--output_dir', required=True, metavar='DIR', help='folder of the sheets')
    args = parser.parse_args()
    bins = Bins(args.bin_dir)
    if not os.path.isdir(args.result_dir):
        raise UserError(f'{args.result_dir}: no such folder; run the model first')
    # All are read twice, as nothing is to be written before all were good.
    for number in progress(range(len(bins.labels)), desc='check', unit='image'):
        bins.read(number, args.result_dir)
    folder = sheets.TestFolder(args.output_dir, bins.settings, bins.columns, bins.labels)
    folder.refuse_conflict('name another --output_dir')
    folder.write_description()
    for number, sheet in enumerate(progress(bins.labels, desc='write', unit='image')):
        imlib.write(os.path.join(args.output_dir, sheet),
                    sheets.compose(*bins.read(number, args.result_dir)))
    print(f'wrote {args.output_dir}: {len(bins.labels)} sheets')


if __name__ == '__main__':
    run_command(main)
