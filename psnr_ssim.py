"""PSNR and SSIM of the reconstructions in an experiment's test sheets.

Examples:
    python test.py --experiment_name 128 --test_int 2
    python psnr_ssim.py --experiment_name 128
"""

import os

from pylib import ArgumentParser, run_command
from stgan.config import ENGINES, experiment_folder


def main():
    parser = ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument('--experiment_name',
                       help='measure sample_testing in this folder below output/, or in an '
                       'experiment folder named by a path such as models/toy')
    where.add_argument('--img_dir', help='folder of sheets, wherever it is')
    parser.add_argument('--threads', type=int,
                        help='sheets measured at once; default: one per core')
    parser.add_argument('--allow_lossy', action='store_true', help='measure JPEG sheets too')
    parser.add_argument('--allow_incomplete', action='store_true',
                        help='measure although sheets of labels.csv are missing')
    parser.add_argument('--output_dir', metavar='DIR', default='',
                        help='folder of the report; default: the one that holds the sheets\' '
                        'folder')
    parser.add_argument('--distribute', default='auto', choices=ENGINES,
                        help='how several processes share the work, see docs/distributed.md; auto: '
                        'as what has started them tells, else alone')
    args = parser.parse_args()
    if args.threads is not None and args.threads < 1:
        parser.error(f'--threads {args.threads}: expected at least 1')

    from stgan import metrics, reports, sheets
    path = args.img_dir or os.path.join(experiment_folder(args.experiment_name), 'sample_testing')
    folder = sheets.open_folder(path, args.allow_lossy, args.allow_incomplete)
    report = reports.report_path(folder, args.output_dir, metrics.REPORT)

    with metrics.joined(args.distribute, folder) as workers:
        values = metrics.measure_folder(folder, args.threads, workers)
    if workers and workers.rank:
        return
    summary = metrics.summarize(folder, values)
    # Before anything is written, which may fail.
    metrics.print_table(folder, summary)
    reports.print_conditions(folder, reports.unlike_paper(len(folder.labels), folder.img_size,
                                                          folder.intensity))
    with reports.report_errors():
        metrics.write_report(report, folder, values, summary)
    print(f'wrote {os.path.splitext(report)[0]}.json, .csv, .png')
    reports.name_report(os.path.dirname(report))


if __name__ == '__main__':
    run_command(main)
