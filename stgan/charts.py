"""The charts of a report, as Matplotlib figures."""

import re
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure

from pylib import printable
from stgan import metrics

# One colour an experiment, or a series; then from the start again.
COLOURS = ('#0f766e', '#b45309', '#4f46e5', '#be185d', '#57534e', '#0369a1', '#65a30d', '#a21caf')
SMOOTHED = 25         # points of a curve whose median a smoothed one shows
STEPS = ('learning rate: lr', 'loss scales', 'skipped updates')    # change in steps


def _text(name):
    """A name as Matplotlib shows it as it is: not as a formula, nor as a label to hide."""
    return re.sub('^_', ' _', printable(name).replace('$', r'\$'))


def _plain(axes, title):
    axes.set_title(_text(title), fontsize=10, loc='left')
    axes.tick_params(labelsize=8)
    axes.grid(color='#e5e7eb', linewidth=.7)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)


def _smooth(values):
    """Medians of SMOOTHED neighbours, of fewer at the ends; what is not finite is left out."""
    values, half = np.asarray(values, float), SMOOTHED // 2
    windows = (values[max(0, i - half):i + half + 1] for i in range(len(values)))
    finite = [window[np.isfinite(window)] for window in windows]
    return np.array([np.median(window) if len(window) else np.nan for window in finite])


def _series(experiment, name):
    """(iterations, values) of a term; None if it was not logged."""
    points = experiment.state['series'].get(name)
    if not points:
        return None
    return (np.array([point[0] for point in points]),
            np.array([np.nan if point[1] is None else point[1] for point in points]))


def training(experiments):
    """Losses and what goes with them, linear and smoothed; None if nothing was logged.

    Args:
        experiments: list of `html_report.Experiment`.
    """
    panels = [('critic: d_loss_gan', ['d_loss_gan']), ('gradient penalty: gp', ['gp']),
              ("D's attribute loss: d_loss_att", ['d_loss_att']),
              ('generator: g_loss_gan', ['g_loss_gan']),
              ("G's attribute loss: g_loss_att", ['g_loss_att']),
              ('reconstruction: g_loss_rec', ['g_loss_rec']),
              ('|d_loss_gan| / |g_loss_gan|', None), (STEPS[0], ['lr']),
              ('seconds of an iteration', ['seconds']),
              (STEPS[1], ['d_loss_scale', 'g_loss_scale']),
              (STEPS[2], ['d_skipped', 'g_skipped'])]
    drawn = [(title, lines) for title, lines in
             ((title, _lines(experiments, names)) for title, names in panels)
             if any(np.any(values) for _, _, values in lines)]
    if not drawn:
        return None
    rows = -(-len(drawn) // 3)
    figure = Figure(figsize=(11, 2.5 * rows), constrained_layout=True)
    for axes, (title, lines) in zip(figure.subplots(rows, 3, squeeze=False).flat, drawn):
        for colour, (label, iterations, values) in zip(cycle(COLOURS), lines):
            if title in STEPS:
                axes.step(iterations, values, color=colour, linewidth=1.5, label=label)
                continue
            axes.plot(iterations, values, color=colour, alpha=.25, linewidth=.8)
            axes.plot(iterations, _smooth(values), color=colour, linewidth=1.5, label=label)
        _plain(axes, title)
        if title in STEPS[:2]:
            axes.set_yscale('log')
        elif title not in STEPS:
            _without_outliers(axes, [values for _, _, values in lines])
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=7)
    for axes in figure.axes[len(drawn):]:
        axes.set_axis_off()
    return figure


def _lines(experiments, names):
    """[(label, iterations, values)] of a panel; names None: the ratio of both critics' losses."""
    lines = []
    for experiment in experiments:
        if names is None:
            d, g = (_series(experiment, name) for name in ('d_loss_gan', 'g_loss_gan'))
            if d and g:
                ratio = _smooth(np.abs(d[1])) / np.maximum(_smooth(np.abs(g[1])), 1e-12)
                lines.append((_text(experiment.name), d[0], ratio))
            continue
        for name in names:
            found = _series(experiment, name)
            if found:
                label = _text(experiment.name) if len(experiments) > 1 else ''
                lines.append((f'{label} {name if len(names) > 1 else ""}'.rstrip(), *found))
    return lines


def _without_outliers(axes, values):
    """Limit the axis to what all but the wildest start of a training needs."""
    finite = np.concatenate([each[np.isfinite(each)] for each in values])
    if len(finite) > 40:
        low, high = np.percentile(finite, [.5, 99])
        if high > low:
            axes.set_ylim(low - .08 * (high - low), high + .08 * (high - low))


def distributions(experiments):
    """How many images have which PSNR and SSIM, of experiments that were measured."""
    figure = Figure(figsize=(11, 2.8), constrained_layout=True)
    papers = metrics.PAPER_PSNR, metrics.PAPER_SSIM
    for column, (axes, title, paper) in enumerate(zip(figure.subplots(1, 2), ('PSNR in dB', 'SSIM'),
                                                      papers)):
        for colour, experiment in zip(cycle(COLOURS), experiments):
            values = np.array(list(experiment.psnr.values()))[:, column]
            values = values[np.isfinite(values)]
            axes.hist(values, bins=min(40, max(5, len(values) // 5)), color=colour, alpha=.55,
                      label=f'{_text(experiment.name)}, mean {values.mean():.4g}')
        axes.axvline(paper, color='#6b7280', linestyle='--', label=f'paper {paper} (CelebA 128)')
        _plain(axes, f'images by {title}')
        axes.legend(frameon=False, fontsize=8)
    return figure


def accuracy(measured):
    """Attribute accuracy of edits, of experiments that were measured."""
    atts = list(measured[0].accuracy['accuracy'])
    figure = Figure(figsize=(11, .32 * len(atts) * max(1, len(measured) * .6) + .9),
                    constrained_layout=True)
    axes, thickness = figure.subplots(), .8 / len(measured)
    for number, (colour, experiment) in enumerate(zip(cycle(COLOURS), measured)):
        values = [100 * experiment.accuracy['accuracy'].get(att, np.nan) for att in atts]
        bars = axes.barh(np.arange(len(atts)) + number * thickness, values, thickness * .9,
                         color=colour, label=f'{_text(experiment.name)}, mean '
                         f'{100 * experiment.accuracy["mean_accuracy"]:.1f} %')
        for bar, value in zip(bars, values):
            axes.text(value + 1, bar.get_y() + bar.get_height() / 2, f'{value:.0f}', va='center',
                      fontsize=8)
    axes.set_yticks(np.arange(len(atts)) + .4 - thickness / 2)
    axes.set_yticklabels([*map(_text, atts)])
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    _plain(axes, 'edits that the classifier sees [%]')
    axes.legend(frameon=False, fontsize=8, loc='lower right')
    return figure


def confusion(experiment):
    """Heat map: how often each edit (row) changed each attribute (column)."""
    own, each = experiment.accuracy['accuracy'], experiment.accuracy['error_each']
    atts = list(own)
    changed = np.array([[own[row] if row == column else each[row][column]
                         for column in atts] for row in atts]) * 100
    figure = Figure(figsize=(11, 1.6 + .36 * len(atts)), constrained_layout=True)
    axes = figure.subplots()
    axes.pcolormesh(changed, cmap='GnBu', vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(changed):
        axes.text(column + .5, row + .5, f'{value:.0f}', ha='center', va='center', fontsize=8,
                  color='white' if value > 60 else '#17211f')
    axes.set_xticks(np.arange(len(atts)) + .5)
    axes.set_xticklabels([*map(_text, atts)], rotation=40, ha='right', rotation_mode='anchor')
    axes.set_yticks(np.arange(len(atts)) + .5)
    axes.set_yticklabels([*map(_text, atts)])
    axes.invert_yaxis()
    _plain(axes, f'{experiment.name}: attributes (columns) that each edit (rows) changed [%]')
    return figure


def intensities(curves):
    """How often edits are seen at growing intensities, and other attributes change.

    Args:
        curves: of intensity_curves.json, see `att_classification.intensities`.
    """
    atts = list(curves['changed'])
    rows = -(-len(atts) // 4)
    figure = Figure(figsize=(11, 2 * rows), constrained_layout=True)
    panels = figure.subplots(rows, 4, squeeze=False, sharey=True).flat
    for axes, att in zip(panels, atts):
        axes.plot(curves['intensities'], 100 * np.array(curves['changed'][att]), color=COLOURS[0],
                  marker='.', label='this attribute')
        axes.plot(curves['intensities'], 100 * np.array(curves['others'][att]), color=COLOURS[1],
                  linestyle='--', label='others, mean')
        axes.axvline(1, color='#9ca3af', linewidth=.8)
        axes.set_ylim(-3, 103)
        _plain(axes, att)
    for axes in figure.axes[len(atts):]:
        axes.set_axis_off()
    figure.axes[0].legend(frameon=False, fontsize=7)
    return figure
