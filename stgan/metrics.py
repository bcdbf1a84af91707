"""PSNR and SSIM between source and reconstruction, the paper's measures of image quality."""

import contextlib
import csv
import functools
import io
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pylib import UserError, atomic_path, progress, usable_cores, write_json, write_text
from pylib.launching import is_launched
from stgan import reports

# Paper, table 2; in which conditions: `reports.PAPER_SHEETS` and what follows there.
PAPER_PSNR, PAPER_SSIM = 31.67, 0.948
REPORT = 'psnr_ssim.json'

WINDOW = 7    # height and width of SSIM's windows


def psnr(image, reference):
    """Peak signal-to-noise ratio in dB of two uint8 images [H,W,3]; infinite if equal."""
    with np.errstate(divide='ignore'):
        return float(peak_signal_noise_ratio(reference, image, data_range=255))


def ssim(image, reference):
    """Structural similarity of two uint8 images [H,W,3]: 7x7 uniform window, mean of the channels.

    Source: Wang et al., "Image quality assessment: from error visibility to structural
    similarity", 2004, as scikit-image computes it by default: windows within the image only,
    sample covariances.
    """
    return float(structural_similarity(reference, image, win_size=WINDOW, data_range=255,
                                       channel_axis=2))


@contextlib.contextmanager
def joined(engine, folder):
    """Context of the workers that measure a `sheets.SheetFolder`; yields None if this one is alone.

    Args:
        engine: see `tflib.engines.joined`.
    """
    if engine == 'none' or engine == 'auto' and not is_launched():
        yield None
        return
    # Only for several: TensorFlow takes seconds to load.
    from stgan import distributed  # noqa: PLC0415
    from tflib import engines  # noqa: PLC0415
    with engines.joined(engine) as workers:
        distributed.meet_over(workers, folder.labels)
        yield workers


def _measure(folder, column, name):
    source, results = folder.read(name, column + 1)
    return psnr(results[column], source), ssim(results[column], source)


def measure_folder(folder, threads=None, workers=None):
    """Return OrderedDict sheet name -> (PSNR in dB, SSIM) of the reconstructions in a folder.

    Args:
        folder: a `sheets.SheetFolder`.
        threads: None: one per core.
        workers: those that share the work, see `engines.joined`; None: this process is alone.

    Raises:
        UserError: the sheets show no reconstruction, too small images, or one is unreadable.
    """
    if folder.img_size < WINDOW:
        raise UserError(f'{folder.path}: images of {folder.img_size} pixels, smaller than the '
                        f'{WINDOW}x{WINDOW} window of SSIM')
    measure = functools.partial(_measure, folder, folder.column_index('reconstruction'))
    names = list(folder.labels)
    own = workers.share(names) if workers else names
    # Threads: what takes time, in Pillow, NumPy and SciPy, runs beside Python, and processes would
    # have to be started first.
    with ThreadPoolExecutor(threads or usable_cores()) as pool:
        values = list(progress(pool.map(measure, own), total=len(own), unit='sheet'))
    return OrderedDict(zip(names, workers.merged(values) if workers else values))


def summarize(folder, values):
    """Return what psnr_ssim.json says of the `values` that `measure_folder` has returned.

    Returns:
        OrderedDict: images, psnr, ssim (means), their deviations, the conditions and the paper's
        row.
    """
    table = np.array(list(values.values()))
    means = table.mean(axis=0)
    summary = OrderedDict(images=len(table), psnr=float(means[0]), ssim=float(means[1]))
    finite = table[np.isfinite(table[:, 0])]
    # Equal images have an infinite PSNR, which neither a deviation nor JSON can hold.
    summary['equal_images'] = len(table) - len(finite)
    if len(finite) < len(table):
        summary['psnr'] = float(finite[:, 0].mean()) if len(finite) else None
    summary['psnr_std'] = float(finite[:, 0].std()) if len(finite) else None
    summary['ssim_std'] = float(table[:, 1].std())
    summary.update(reports.conditions(folder))
    summary['paper'] = OrderedDict(images=reports.PAPER_SHEETS, psnr=PAPER_PSNR, ssim=PAPER_SSIM,
                                   img_size=reports.PAPER_SIZE, test_int=reports.PAPER_INTENSITY)
    return summary


def print_table(folder, summary):
    """Print the figures of a `SheetFolder` beside the paper's, with the conditions of both."""
    table = Table('', 'sheets', 'size', 'intensity', 'PSNR in dB', 'SSIM',
                  title='source vs reconstruction')
    table.add_row('this run', str(summary['images']), str(folder.img_size),
                  reports.number_in_words(folder.intensity),
                  'equal' if summary['psnr'] is None else f'{summary["psnr"]:.2f}',
                  f'{summary["ssim"]:.3f}')
    table.add_row('paper', *map(str, (reports.PAPER_SHEETS, reports.PAPER_SIZE,
                                      reports.PAPER_INTENSITY, PAPER_PSNR, PAPER_SSIM)))
    Console().print(table)


def write_report(path, folder, values, summary):
    """Write the summary to `path`, a JSON file, and beside it a .csv and a histogram .png.

    Args:
        folder: the `sheets.SheetFolder`; values: of `measure_folder`; summary: of `summarize`.
    """
    base, table = os.path.splitext(path)[0], np.array(list(values.values()))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['sheet', 'psnr', 'ssim'])
    for name, (psnr_, ssim_) in values.items():
        writer.writerow([name, f'{psnr_:.6f}', f'{ssim_:.8f}'])
    write_text(base + '.csv', text.getvalue())
    _plot_histograms(base + '.png', table[np.isfinite(table[:, 0]), 0], table[:, 1])
    write_json(path, OrderedDict(sheets=reports.sheets_in_report(folder, path), **summary))


def _plot_histograms(path, psnrs, ssims):
    """Distribution over the images, with the mean and the paper's mean."""
    figure = Figure(figsize=(10, 3.6), constrained_layout=True)
    for axes, numbers, label, paper in zip(figure.subplots(1, 2), (psnrs, ssims),
                                           ('PSNR [dB]', 'SSIM'), (PAPER_PSNR, PAPER_SSIM)):
        axes.hist(numbers, bins=min(40, max(5, len(numbers) // 5)), color='#8fb3d9')
        if len(numbers):
            axes.axvline(np.mean(numbers), color='#1f4e79', label=f'mean {np.mean(numbers):.4g}')
        axes.axvline(paper, color='#c0504d', linestyle='--', label=f'paper {paper} (CelebA 128)')
        axes.set_xlabel(label)
        axes.set_ylabel('images')
        axes.legend(frameon=False, loc='lower center', bbox_to_anchor=(.5, 1), ncol=2)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
