"""PSNR and SSIM of the reconstructions in an experiment's test sheets.

Examples:
    python test.py --experiment_name 128 --test_int 2
    python psnr_ssim.py --experiment_name 128
"""

import os

from pylib import ArgumentParser, run_command


def main():
    parser = ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument('--experiment_name', help='measure output/NAME/sample_testing')
    where.add_argument('--img_dir', help='folder of sheets, wherever it is')
    parser.add_argument('--threads', type=int,
                        help='sheets measured at once; default: one per core')
    parser.add_argument('--allow_lossy', action='store_true', help='measure JPEG sheets too')
    parser.add_argument('--allow_incomplete', action='store_true',
                        help='measure although sheets of labels.csv are missing')
    args = parser.parse_args()
    if args.threads is not None and args.threads < 1:
        parser.error(f'--threads {args.threads}: expected at least 1')

    from rich.console import Console
    from rich.table import Table

    from stgan import metrics, sheets
    from stgan.config import experiment_folder
    path = args.img_dir or os.path.join(experiment_folder(args.experiment_name), 'sample_testing')
    folder = sheets.open_folder(path, args.allow_lossy, args.allow_incomplete)

    report_folder = os.path.dirname(os.path.normpath(path)) or '.'
    summary = metrics.write_report(report_folder, metrics.measure_folder(folder, args.threads))
    table = Table('', 'images', 'PSNR in dB', 'SSIM', title='source vs reconstruction')
    table.add_row('this run', str(summary['images']),
                  'equal' if summary['psnr'] is None else f'{summary["psnr"]:.2f}',
                  f'{summary["ssim"]:.3f}')
    table.add_row('paper', str(metrics.PAPER_IMAGES), str(metrics.PAPER_PSNR),
                  str(metrics.PAPER_SSIM))
    Console().print(table)
    print(f'wrote {os.path.join(report_folder, "psnr_ssim")}.json, .csv, .png')


if __name__ == '__main__':
    run_command(main)
