"""Attribute accuracy of edits: what the classifier sees in test sheets."""

import os
import re
from collections import OrderedDict
from typing import List, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import imlib
from att_classification.models import classifier
from att_classification.options import SIZES
from att_classification.training import DESCRIPTION
from pylib import UserError, atomic_path, counted, progress, read_json, write_json
from stgan import distributed, reports, sheets
from stgan.attributes import CELEBA_ATTRIBUTES, DEFAULT_ATTRIBUTES
from stgan.celeba import CelebA
from stgan.config import CHECKPOINTS
from tflib import checkpoint, collective, engines, tf, utils

# Paper, table 1: mean over the 13 attributes, by the published classifier; in which conditions
# else: `reports.PAPER_SHEETS` and what follows there.
PAPER_ACCURACY = 0.8605
REPORT = 'attribute_accuracy.json'


class Classifier:
    """A trained attribute classifier.

    Args:
        path: a checkpoint (the published `128.ckpt` too) or a folder of checkpoints.

    Attributes:
        atts: names of the attributes it predicts; img_size: of its input.
        is_published: whether no description tells that it was trained here.
    """

    def __init__(self, path, device='auto', threads=-1):
        path = checkpoint.meant_by(path, CHECKPOINTS, 'no classifier checkpoint; train one with '
                                   'att_classification/train.py or put the published 128.ckpt '
                                   'there')
        description_path = os.path.join(os.path.dirname(path), DESCRIPTION)
        self.path, self.atts, self.img_size = path, list(CELEBA_ATTRIBUTES), 128
        self.is_published = not os.path.exists(description_path)
        if not self.is_published:
            self.atts, self.img_size = _read_description(description_path)
        with tf.Graph().as_default() as graph:
            self._images = tf.placeholder(tf.float32, [None, None, None, 3])
            resized = tf.image.resize_bicubic(self._images, [self.img_size] * 2)
            logits = classifier(tf.clip_by_value(resized, -1., 1.), len(self.atts),
                                is_training=False)
            self._predictions = tf.cast(logits > 0, tf.int64)
            self._session = utils.session(utils.resolve_device(device), threads, graph)
            try:
                checkpoint.restore(self._session, path, tf.global_variables(), ('classifier',))
            except checkpoint.Misfit:
                if not self.is_published:
                    raise
                raise UserError(f'{path}: not the published classifier; for any other restore '
                                f'{DESCRIPTION}, which tells what it predicts, beside it') from None

    def predict(self, images):
        """{0,1} labels int64 [N,n_att] of uint8 images [N,S,S,3]; other sizes are resized."""
        return self._session.run(self._predictions, {self._images: imlib.to_float(images)})


def _read_description(path):
    """(attributes, image size) that a classifier.json tells."""
    description = read_json(path)
    atts, size = description.get('attributes'), description.get('img_size')
    if (not isinstance(atts, list) or not atts or not all(isinstance(att, str) for att in atts)
            or len(set(atts)) < len(atts) or type(size) is not int or size not in SIZES):
        raise UserError(f'{path}: expected attributes and img_size as att_classification/train.py '
                        'writes them; restore it, or name another classifier')
    return atts, size


def attribute_reader(path, atts, device='auto', threads=-1):
    """A function from an image, uint8 [S,S,3], to the names of those attributes that it shows.

    Raises:
        UserError: no classifier, or one that does not predict all of them.
    """
    classifier_ = Classifier(path, device, threads)
    columns = columns_of(atts, classifier_)

    def shown(image):
        labels = classifier_.predict(image[np.newaxis])[0, columns]
        return [att for att, label in zip(atts, labels) if label]
    return shown


def columns_of(atts, classifier_):
    """Where among a `Classifier`'s predictions those of some attributes are.

    Raises:
        UserError: it does not predict all of them.
    """
    unknown = [att for att in atts if att not in classifier_.atts]
    if unknown:
        raise UserError(f'{classifier_.path}: does not predict {" ".join(unknown)}, but '
                        f'{" ".join(classifier_.atts)}; name another classifier')
    return [classifier_.atts.index(att) for att in atts]


class Result(NamedTuple):
    """Outcome of an evaluation of n attributes; fractions in [0,1]."""

    atts: List[str]                 # [n], those that were evaluated
    images: int                     # number of sheets
    source_accuracy: np.ndarray     # [n], the classifier on the source images
    accuracy: np.ndarray            # [n], edits it takes for the inverted source label
    error: np.ndarray               # [n], mean of what an edit changed beside its attribute
    error_each: np.ndarray          # [n,n], the same by edit (row) and attribute; diagonal 0


def _sheet_labels(folder, atts, dataroot):
    """Return OrderedDict sheet name -> {0,1} labels int64 [n] of its source image."""
    names = list(folder.labels)
    if folder.labels[names[0]] is not None:
        columns = [folder.atts.index(att) for att in atts]
        return OrderedDict((name, folder.labels[name][1][columns]) for name in names)
    if not dataroot:
        raise UserError(f'{folder.path}: no {sheets.LABELS}; name the data folder with --dataroot')
    celeba = CelebA(dataroot, atts, labels_only=True)
    labels = OrderedDict()
    for name in names:
        position = re.match(r'\d+', name)
        if not position or not 1 <= int(position.group()) <= len(celeba):
            raise UserError(f'{os.path.join(folder.path, name)}: expected a name that starts with '
                            f'the position in the list, 1 to {len(celeba)}')
        labels[name] = celeba.labels[int(position.group()) - 1]
    return labels


def _edit_columns(folder, atts, known):
    """Return OrderedDict attribute -> result column of its edit.

    Args:
        atts: the attributes to evaluate; None: all of the sheets.
        known: those that the classifier predicts.
    """
    columns = OrderedDict((column.attributes[0], index)
                          for index, column in enumerate(folder.columns)
                          if column.kind == 'edit' and len(column.attributes) == 1)
    if len(columns) < sum(column.kind == 'edit' for column in folder.columns):
        raise UserError(f'{folder.path}: its sheets do not show one edit per attribute; take the '
                        'folder that `test.py --test_int 2` writes (sample_testing)')
    for att in atts or columns:
        if att not in columns:
            raise UserError(f'--atts {att}: the sheets edit {" ".join(columns)}')
        if att not in known:
            raise UserError(f'{att}: unknown to the classifier, which predicts {" ".join(known)}')
    return OrderedDict((att, columns[att]) for att in atts or columns)


def evaluate(folder, classifier_, atts=None, dataroot=None, workers=None):
    """Classify the single-attribute edits of a `sheets.SheetFolder`.

    Args:
        atts: evaluate these attributes only.
        dataroot: of the labels, for folders without labels.csv.
        workers: those that share the work, see `engines.joined`; None: this process is alone.

    Returns:
        a `Result`.

    Source: paper section 4.2; csmliu/STGAN att_classification/test.py@8a206ad.
    """
    columns = _edit_columns(folder, atts, classifier_.atts)
    atts = list(columns)
    predicted = [classifier_.atts.index(att) for att in atts]
    labels = _sheet_labels(folder, atts, dataroot)
    workers = workers or collective.Alone()
    wrong = np.zeros([1 + len(atts), len(atts)])
    for name, label in progress(workers.share(labels.items()), unit='sheet'):
        source, results = folder.read(name)
        images = np.concatenate([source[np.newaxis], results[list(columns.values())]])
        wrong += classifier_.predict(images)[:, predicted] != label
    wrong = np.sum(workers.exchange(wrong.tolist()), axis=0) / len(labels)
    # What differs from the source label is right for the edited attribute and wrong elsewhere.
    each = wrong[1:] * (1 - np.eye(len(atts)))
    error = each.sum(axis=1) / max(len(atts) - 1, 1)
    return Result(atts=atts, images=len(labels), source_accuracy=1 - wrong[0],
                  accuracy=np.diagonal(wrong[1:]).copy(), error=error, error_each=each)


def unlike_paper(folder, classifier_, result):
    """In which conditions a `Result` differs from the paper's, in words."""
    found = reports.unlike_paper(len(folder.labels), folder.img_size, folder.intensity)
    if sorted(result.atts) != sorted(DEFAULT_ATTRIBUTES):
        found.append(f'the mean of {" ".join(result.atts)} instead of the published '
                     f'{len(DEFAULT_ATTRIBUTES)} attributes')
    if not classifier_.is_published:
        found.append(f'a classifier trained here ({classifier_.path}) instead of the published '
                     '128.ckpt')
    return found


def print_result(folder, result):
    """Print accuracy and error per attribute, then which other attributes each edit disturbs."""
    console = Console()
    table = Table('attribute', 'edit accuracy', 'error of the others', 'source accuracy',
                  title=f'attribute accuracy on {counted(result.images, "sheet")} of '
                        f'{folder.img_size}x{folder.img_size}, intensity '
                        f'{reports.number_in_words(folder.intensity)}')
    rows = zip(result.atts, result.accuracy, result.error, result.source_accuracy)
    for att, accuracy, error, source in rows:
        table.add_row(att, f'{accuracy:.2%}', f'{error:.2%}', f'{source:.2%}')
    table.add_section()
    table.add_row('mean', f'{result.accuracy.mean():.2%}', f'{result.error.mean():.2%}',
                  f'{result.source_accuracy.mean():.2%}')
    table.add_row('paper (CelebA)', f'{PAPER_ACCURACY:.2%}', '', '')
    console.print(table)
    print(f'paper: {reports.PAPER_SHEETS} sheets of {reports.PAPER_SIZE}x{reports.PAPER_SIZE}, '
          f'intensity {reports.PAPER_INTENSITY}', flush=True)
    table = Table('edited', *[str(1 + i) for i in range(len(result.atts))],
                  title='changed beside the edit [%], by attribute')
    for i, (att, row) in enumerate(zip(result.atts, result.error_each)):
        table.add_row(f'{1 + i} {att}', *['' if i == j else f'{100 * value:.0f}'
                                          for j, value in enumerate(row)])
    console.print(table)


def write_result(path, folder, result):
    """Write the report to `path`, a JSON file, and beside it the confusions as .png."""
    write_json(path, OrderedDict(
        sheets=reports.sheets_in_report(folder, path),
        images=result.images,
        mean_accuracy=result.accuracy.mean(),
        mean_error=result.error.mean(),
        accuracy=OrderedDict(zip(result.atts, result.accuracy)),
        error=OrderedDict(zip(result.atts, result.error)),
        source_accuracy=OrderedDict(zip(result.atts, result.source_accuracy)),
        error_each=OrderedDict((att, OrderedDict(zip(result.atts, row)))
                               for att, row in zip(result.atts, result.error_each)),
        **reports.conditions(folder),
        paper=OrderedDict(images=reports.PAPER_SHEETS, mean_accuracy=PAPER_ACCURACY,
                          img_size=reports.PAPER_SIZE, test_int=reports.PAPER_INTENSITY)))
    _plot_confusion(os.path.splitext(path)[0] + '.png', result)


def measure(folder, config):
    """Do what test.py does: evaluate, print, write the report.

    Args:
        folder: a `sheets.SheetFolder`.
        config: an `options.EvaluationConfig`.
    """
    if config.dataroot and None not in folder.labels.values():
        raise UserError(f'--dataroot: has no effect, as {os.path.join(folder.path, sheets.LABELS)} '
                        'has the labels')
    report = reports.report_path(folder, config.output_dir, REPORT)
    with engines.joined(config.distribute) as workers:
        distributed.meet_over(workers, folder.labels, config)
        utils.select_gpus(collective.gpus_of(config.gpu, workers))
        classifier_ = Classifier(config.checkpoint, config.device,
                                 collective.threads_of(config.threads, workers))
        result = evaluate(folder, classifier_, config.atts, config.dataroot, workers)
    if workers.rank:
        return
    # Before anything is written, which may fail.
    print_result(folder, result)
    reports.print_conditions(folder, unlike_paper(folder, classifier_, result))
    with reports.report_errors():
        write_result(report, folder, result)
    print(f'wrote {os.path.splitext(report)[0]}.json, .png')
    reports.name_report(os.path.dirname(report))


def _plot_confusion(path, result):
    """Heat map: how often each edit (row) changed what the classifier sees (column)."""
    from matplotlib.figure import Figure  # noqa: PLC0415  (slow to import)

    changed = result.error_each + np.diag(result.accuracy)
    count = len(result.atts)
    figure = Figure(figsize=(3.2 + .55 * count, 2.4 + .45 * count), constrained_layout=True)
    axes = figure.subplots()
    image = axes.imshow(changed, cmap='Blues', vmin=0, vmax=1)
    for i in range(count):
        for j in range(count):
            axes.text(j, i, f'{100 * changed[i, j]:.0f}', ha='center', va='center', fontsize=8,
                      color='white' if changed[i, j] > .5 else 'black')
    axes.set_xticks(range(count))
    axes.set_xticklabels(result.atts, rotation=60, ha='right', rotation_mode='anchor')
    axes.set_yticks(range(count))
    axes.set_yticklabels(result.atts)
    axes.set_xlabel('attribute that changed')
    axes.set_ylabel('attribute that was edited')
    axes.set_title(f'changed after the edit [%], {counted(result.images, "sheet")}\n'
                   'wanted: 100 on the diagonal, 0 beside it', fontsize=10)
    figure.colorbar(image, ax=axes, fraction=.046)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
