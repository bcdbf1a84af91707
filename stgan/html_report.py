"""A report on experiments: one HTML file that holds all it shows and asks no server for more."""

import base64
import csv
import html
import io
import os
from collections import OrderedDict
from typing import List, NamedTuple

import numpy as np
from matplotlib import rc_context
from PIL import Image

import imlib
from pylib import UserError, counted, read_json, warn, write_text
from stgan import charts, metrics, reports, sheets
from stgan.config import SAMPLES, load_config
from stgan.watching import Watcher

REPORT = 'report.html'
ACCURACY, CURVES = 'attribute_accuracy.json', 'intensity_curves.json'
SHEETS = 'sample_testing'

# CelebA at 128x128, all test images, intensity 2, each measured by its authors: PSNR, SSIM,
# attribute accuracy, minutes of training per epoch, milliseconds per edited image. Source: the
# paper, and the README of Ascend ModelZoo's STGAN_ID1473.
PUBLISHED = OrderedDict([
    ('paper, GTX 1080 Ti', (31.67, .948, .8605, 27, 11.78)),
    ('GPU run of the Ascend authors', (32.30, .950, .8709, 13.2, 7.11)),
    ('Ascend, high precision', (34.15, .971, .8848, 52, 3.33)),
    ('Ascend, mixed precision', (33.78, .972, .8332, 5.2, 3.33)),
])

# What the files of figures hold at least: by which command, the like of it, and whether it fits
# together. None as a name stands for any, as a value for a number or null.
FIGURES = {
    metrics.REPORT: ('psnr_ssim.py', {'images': 0, 'img_size': 0, 'ssim': 0., 'psnr': None,
                                      'test_int': None}, lambda found: True),
    ACCURACY: ('att_classification/test.py', {
        'images': 0, 'img_size': 0, 'mean_accuracy': 0., 'mean_error': 0., 'test_int': None,
        'accuracy': {None: 0.}, 'error_each': {None: {None: 0.}}}, lambda found: all(
            {*names} == {*found['accuracy']}
            for names in (found['error_each'], *found['error_each'].values()))),
    CURVES: ('this command with --classifier', {
        'images': 0, 'intensities': [0.], 'changed': {None: [0.]}, 'others': {None: [0.]}},
             lambda found: {*found['changed']} == {*found['others']} and all(
                 len(each) == len(found['intensities'])
                 for part in ('changed', 'others') for each in found[part].values())),
}

MOST = 1e12           # no figure is larger
SHOWN_SAMPLES = 6     # sample grids of a training
SAMPLE_ROWS, SAMPLE_WIDTH = 4, 960
SHOWN_IMAGES = 4      # best, and worst, reconstructions
IMAGES_PER_EPOCH = 182000    # of the published split

STYLE = """
:root { --back: #f6f7f7; --card: #fff; --text: #17211f; --soft: #5a6866; --line: #d9dfde;
  --accent: #0f766e; color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1060px; margin: auto; padding: 1.2rem; }
h1 { margin: .2rem 0; font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin: 0 0 .6rem; font-size: 1.15rem; }
h3 { margin: .9rem 0 .3rem; font-size: .95rem; }
p { margin: .3rem 0; }
.soft, figcaption { color: var(--soft); font-size: .88rem; }
section { margin: 1rem 0; padding: 1rem 1.2rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 14px; break-inside: avoid-page; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(135px, 1fr)); gap: .7rem;
  margin: .9rem 0; padding: 0; list-style: none; }
.facts li { padding: .6rem .8rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
.facts b { display: block; font-size: 1.35rem; font-weight: 650; color: var(--accent); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; white-space: nowrap; }
tr.own td { font-weight: 650; color: var(--accent); }
figure { margin: .5rem 0; }
svg, img { max-width: 100%; height: auto; }
figure.wide svg { min-width: 720px; }
.beside { display: flex; flex-wrap: wrap; gap: 0 2.5rem; }
.pairs { display: flex; flex-wrap: wrap; gap: .8rem; }
.pairs img { display: block; border-radius: 6px; image-rendering: auto; }
code { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
@media print { body { background: #fff; font-size: 12px; }
  section, .facts li { border-color: #bbb; }
  main { max-width: none; padding: 0; } }
"""


class Experiment(NamedTuple):
    """What is known of an experiment; what is not there yet is empty.

    Attributes:
        state: of `watching.Watcher.state`; psnr: {sheet name: (PSNR, SSIM)}.
        quality: psnr_ssim.json; accuracy: attribute_accuracy.json; curves: intensity_curves.json.
    """

    folder: str
    state: dict
    samples: List[str]
    psnr: dict
    quality: dict
    accuracy: dict
    curves: dict

    @property
    def name(self):
        """What it is called in the report."""
        return self.state['name']

    @property
    def images_per_second(self):
        """Images that training takes in a second, of all updates; 0 before it began."""
        config = self.state['config']
        seconds = self.state['seconds']
        return config.batch_size * (config.n_d + 1) / seconds if seconds else 0


def read(folder):
    """The `Experiment` in a folder.

    Raises:
        UserError: there is none.
    """
    config, _ = load_config(folder)
    watcher = Watcher(os.devnull, [folder])
    name, = watcher.names()
    state = dict(watcher.state(name), config=config)
    samples = [os.path.join(folder, SAMPLES, each) for each in state['samples']]
    return Experiment(folder, state, samples, _image_figures(folder),
                      _optional(folder, metrics.REPORT), _optional(folder, ACCURACY),
                      _optional(folder, CURVES))


def with_curves(experiment, folder):
    """The experiment with the intensity curves that were measured into another folder."""
    return experiment._replace(curves=_optional(folder, CURVES))


def _optional(folder, name):
    """What a JSON file of figures holds, {} if there is none."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return {}
    figures, (command, example, fits) = read_json(path), FIGURES[name]
    if not (_is_like(figures, example) and fits(figures)):
        raise UserError(f'{path}: not as {command} writes it; let it be written anew')
    return figures


def _is_like(found, example):
    """Whether a value of JSON has the parts of an example; one of several in a dict or list."""
    if isinstance(example, dict) and None in example:    # any names
        return isinstance(found, dict) and bool(found) and all(
            _is_like(value, example[None]) for value in found.values())
    if isinstance(example, dict):
        return isinstance(found, dict) and all(
            _is_like(found.get(name), value) for name, value in example.items())
    if isinstance(example, list):
        return isinstance(found, list) and all(_is_like(each, example[0]) for each in found)
    return (isinstance(found, (int, float)) and not abs(found) > MOST) or found is None is example


def _image_figures(folder):
    """{sheet name: (PSNR, SSIM)} of psnr_ssim.csv, {} if there is none."""
    path = os.path.join(folder, os.path.splitext(metrics.REPORT)[0] + '.csv')
    if not os.path.exists(path):
        return {}
    with open(path, newline='', encoding='utf-8') as stream:
        try:
            return {row['sheet']: (float(row['psnr']), float(row['ssim']))
                    for row in csv.DictReader(stream)}
        except (KeyError, TypeError, ValueError, csv.Error):
            raise UserError(f'{path}: damaged; python psnr_ssim.py writes it anew') from None


def write(path, experiments):
    """Write the report on `Experiment`s, the first of which it is about, to an HTML file."""
    experiments = _told_apart(experiments)
    first = experiments[0]
    parts = [_head(first), _facts(first), _settings(experiments), _training(experiments),
             _sample_grids(first), _reconstructions(experiments), _accuracy(experiments),
             _intensities(first), _published(experiments)]
    body = '\n'.join(part for part in parts if part)
    text = ('<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<title>{html.escape(first.name)}: STGAN report</title>\n'
            f'<style>{STYLE}</style>\n<main>\n{body}\n</main>\n</html>\n')
    # Names of folders need not be text.
    write_text(path, text.encode('utf-8', 'backslashreplace').decode())


def _told_apart(experiments):
    """The experiments, by the paths of their folders if names are the same."""
    if len({each.name for each in experiments}) == len(experiments):
        return experiments
    return [each._replace(state=dict(each.state, name=each.folder)) for each in experiments]


def _section(title, *parts):
    """A section, or '' if it has no parts."""
    parts = [part for part in parts if part]
    return f'<section>\n<h2>{title}</h2>\n' + '\n'.join(parts) + '\n</section>' if parts else ''


def _table(heads, rows, own=1):
    """An HTML table of texts; the first `own` rows stand out."""
    lines = ['<tr>' + ''.join(f'<th>{html.escape(head)}</th>' for head in heads) + '</tr>']
    for number, row in enumerate(rows):
        lines.append(f'<tr{" class=own" if number < own else ""}>'
                     + ''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row) + '</tr>')
    return '<div class=wide><table>\n' + '\n'.join(lines) + '\n</table></div>'


def _head(first):
    state = first.state
    progress = f'iteration {state["iteration"]:,}' + (
        f' of {state["total"]:,}' if state['total'] else '')
    what = ('not trained yet' if not state['iteration'] else
            f'training, {progress}' if state['live'] else
            f'trained, {progress}' if state['iteration'] == state['total'] else
            f'stopped, {progress}')
    return (f'<h1>{html.escape(first.name)}</h1>\n<p class=soft>{html.escape(first.folder)}: '
            f'{what}</p>')


def _facts(first):
    state, facts = first.state, []
    if first.quality.get('psnr') is not None:
        facts += [('PSNR', f'{first.quality["psnr"]:.2f} dB'),
                  ('SSIM', f'{first.quality["ssim"]:.3f}')]
    if first.accuracy:
        facts += [('attribute accuracy', f'{first.accuracy["mean_accuracy"]:.1%}'),
                  ('others changed', f'{first.accuracy["mean_error"]:.1%}')]
    if state['seconds']:
        facts += [('an iteration', f'{state["seconds"]:.3g} s'),
                  ('images in training', f'{first.images_per_second:,.0f} /s')]
    if state['live'] and state['remaining']:
        facts.append(('to go', f'{state["remaining"] / 3600:.2g} h'))
    if state['skipped']:
        facts.append(('skipped updates', f'{state["skipped"]:.0f}'))
    return '<ul class=facts>' + ''.join(
        f'<li><b>{html.escape(value)}</b>{html.escape(name)}</li>' for name, value in facts
    ) + '</ul>' if facts else ''


def _settings(experiments):
    parts = []
    for experiment in experiments:
        lines = experiment.state['settings'] or ['the published ones']
        head = f'<h3>{html.escape(experiment.name)}</h3>' if len(experiments) > 1 else ''
        parts.append(f'<div>{head}<p><code>{"<br>".join(map(html.escape, lines))}</code></p></div>')
    return _section('Settings that differ from the published ones',
                    f'<div class=beside>{"".join(parts)}</div>')


def _svg(figure):
    """A figure as an inline SVG, its text as text."""
    stream = io.StringIO()
    with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'stgan'}):
        figure.savefig(stream, format='svg', metadata={'Date': None})
    text = stream.getvalue()
    return '<figure class=wide>' + text[text.index('<svg'):] + '</figure>'


def _training(experiments):
    """Losses and what goes with them."""
    figure = charts.training(experiments)
    return _section('Training', _svg(figure), '<p class=soft>Over iterations: thin as logged (in '
                    'long runs means of stretches), bold the median of '
                    f'{charts.SMOOTHED} points.</p>') if figure else ''


def _picture(image, title, quality=84):
    """A PIL image inside the page."""
    stream = io.BytesIO()
    image.convert('RGB').save(stream, 'JPEG', quality=quality)
    data = base64.b64encode(stream.getvalue()).decode()
    return (f'<img src="data:image/jpeg;base64,{data}" width={image.width} height={image.height} '
            f'alt="{html.escape(title)}">')


def _read(path, columns=None):
    """An image of the experiment, see `imlib.read`; None, and a warning, if it is damaged."""
    try:
        return imlib.read(path, columns)
    except UserError as error:
        warn(f'{error}; the report goes without it')
        return None


def _sample_grids(first):
    """The same validation images over the training, the newest grid first."""
    size, found = first.state['config'].img_size, first.samples
    chosen = [found[i] for i in sorted({int(round(i)) for i in np.linspace(
        0, len(found) - 1, SHOWN_SAMPLES)})] if found else []
    parts = []
    for path in reversed(chosen):
        grid = _read(path)
        if grid is None:
            continue
        rows = Image.fromarray(grid[:SAMPLE_ROWS * size])
        rows.thumbnail((SAMPLE_WIDTH, SAMPLE_WIDTH), Image.LANCZOS)
        name = os.path.splitext(os.path.basename(path))[0]
        parts.append(f'<figure>{_picture(rows, "sample grid " + name)}'
                     f'<figcaption>{html.escape(name)}</figcaption></figure>')
    atts = html.escape(', '.join(first.state['config'].atts))
    said = f'<p class=soft>Source, reconstruction, then an edit of each attribute: {atts}.</p>'
    return _section('Samples over the training', *([said, *parts] if parts else []))


def _reconstructions(experiments):
    """Distributions of PSNR and SSIM, best and worst images of the first experiment."""
    measured = [each for each in experiments if each.psnr]
    return _section('Reconstructions', _svg(charts.distributions(measured)),
                    *_best_and_worst(experiments[0]),
                    _unlike_paper(experiments[0], experiments[0].quality)) if measured else ''


def _best_and_worst(experiment):
    """Sources beside their reconstructions, where PSNR is highest and lowest."""
    folder = os.path.join(experiment.folder, SHEETS)
    ordered = sorted((name for name, (psnr, _) in experiment.psnr.items() if np.isfinite(psnr)
                      and os.path.exists(os.path.join(folder, name))),
                     key=lambda name: experiment.psnr[name])
    size = experiment.state['config'].img_size
    for title, names in (('Worst', ordered[:SHOWN_IMAGES]),
                         ('Best', ordered[::-1][:SHOWN_IMAGES])):
        pairs = []
        for name in names:
            left = size + sheets.gap_width(size)
            sheet = _read(os.path.join(folder, name), left + size)
            if sheet is None:
                continue
            pair = Image.fromarray(np.concatenate([sheet[:size, :size], sheet[:size, left:]], 1))
            psnr, ssim = experiment.psnr[name]
            pairs.append(f'<figure>{_picture(pair, name, 92)}<figcaption>{html.escape(name)}<br>'
                         f'{psnr:.2f} dB, {ssim:.3f}</figcaption></figure>')
        if pairs:
            yield f'<h3>{title}: source, reconstruction</h3><div class=pairs>{"".join(pairs)}</div>'


def _unlike_paper(experiment, report):
    """In which conditions a report differs from the paper's, as a paragraph."""
    found = report and reports.unlike_paper(report['images'], report['img_size'],
                                            report.get('test_int'))
    return (f'<p class=soft>{html.escape(experiment.name)}: not comparable with the paper ('
            + html.escape('; '.join(found)) + ').</p>' if found else '')


def _accuracy(experiments):
    """Attribute accuracy of edits, and which other attributes each edit changed."""
    measured = [each for each in experiments if each.accuracy]
    return _section('Attributes', _svg(charts.accuracy(measured)),
                    _svg(charts.confusion(measured[0])),
                    _unlike_paper(measured[0], measured[0].accuracy)) if measured else ''


def _intensities(first):
    """How often edits are seen at growing intensities, and other attributes change."""
    if not first.curves:
        return ''
    said = ('<p class=soft>Share of edits [%] after which the classifier sees the attribute '
            'changed, and of other attributes that changed too, by the intensity of the edit: -1 '
            f'is none, 1 what training shows. {counted(first.curves["images"], "image")} of the '
            'test part.</p>')
    return _section('Intensity', _svg(charts.intensities(first.curves)), said)


def _published(experiments):
    """The figures of the experiments above the published ones."""
    rows = []
    for experiment in experiments:
        quality, accuracy = experiment.quality, experiment.accuracy
        speed = experiment.images_per_second
        config = experiment.state['config']
        rows.append([
            experiment.name, f'{config.img_size}x{config.img_size}',
            quality.get('images') or accuracy.get('images') or '',
            reports.number_in_words(quality['test_int']) if 'test_int' in quality else '',
            f'{quality["psnr"]:.2f}' if quality.get('psnr') is not None else '',
            f'{quality["ssim"]:.3f}' if quality else '',
            f'{accuracy["mean_accuracy"]:.2%}' if accuracy else '',
            f'{IMAGES_PER_EPOCH / speed / 60:.3g}' if speed else '', ''])
    for name, (psnr, ssim, accuracy, minutes, milliseconds) in PUBLISHED.items():
        rows.append([name, '128x128', reports.PAPER_SHEETS, reports.PAPER_INTENSITY, f'{psnr:.2f}',
                     f'{ssim:.3f}', f'{accuracy:.2%}', minutes, milliseconds])
    table = _table(['', 'size', 'sheets', 'intensity', 'PSNR', 'SSIM', 'attribute accuracy',
                    'min per epoch', 'ms per image'], rows, len(experiments))
    return _section('Beside the published figures', table, '<p class=soft>Published: CelebA, each '
                    "measured by its authors with the published classifier. An epoch is CelebA's "
                    f'{IMAGES_PER_EPOCH:,} training images at the speed of the last '
                    'iterations.</p>')
