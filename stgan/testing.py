"""What test.py does: sheets of edited test images."""

import contextlib
import functools
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import imlib
from pylib import (
    FolderLock,
    StopRequest,
    UserError,
    counted,
    progress,
    read_json,
    remove_unfinished,
    require_place,
    usable_cores,
)
from stgan import attributes, data, distributed, reports, sheets
from stgan.celeba import CelebA
from stgan.config import SETTING
from stgan.editing import Editor
from tflib import checkpoint, collective, engines, npu, utils

BY_POSITION = 'by --img'


def selected_images(config, options):
    """Return (CelebA, 0-based list positions int64 [n]) of a test."""
    celeba = open_data(config, options)
    if not options.img:
        indices = celeba.part('test')
        if not len(indices):
            raise UserError(f'{celeba.folder}: the test split is empty ({celeba.split}); name '
                            'images with --img')
        return celeba, indices
    for position in options.img:
        if position > len(celeba):
            raise UserError(f'--img {position}: the list has images 1 to {len(celeba)}')
    return celeba, np.array(list(OrderedDict.fromkeys(options.img))) - 1


def open_data(config, options):
    """The `CelebA` of a test: the data of its options, or those the experiment was trained with."""
    return CelebA(options.dataroot or _stored_dataroot(options.folder, config), config.atts,
                  config.split, options.use_cropped_img or config.use_cropped_img)


def _stored_dataroot(folder, config):
    """The data folder an experiment was trained with.

    A relative one is sought from the working directory and from that of the training run, to which
    a link may lead.
    """
    above = os.path.join(os.path.realpath(folder), os.pardir, os.pardir)
    for path in (config.dataroot, os.path.normpath(os.path.join(above, config.dataroot))):
        if os.path.isdir(path):
            return path
    place = '' if os.path.isabs(config.dataroot) else f' in {os.getcwd()}'
    raise UserError(f'{os.path.join(folder, SETTING)}: dataroot {config.dataroot}: no such folder'
                    f'{place}; say with --dataroot where it is')


def show_session(options):
    """Print how the session of a test would be configured, on this machine or another."""
    device = utils.resolve_device('auto') if options.device == 'auto' else options.device
    npu_options = (npu.inference_options(options.precision, options.npu_option)
                   if device == 'npu' else None)
    session_config = utils.session_config(device, options.precision, options.threads, npu_options,
                                          optimize=False)
    print('\n'.join(utils.describe_session(session_config, device, options.precision)))


def make_sheets(options, config, plan):
    """Edit test images and write one sheet per image.

    Sheets that an equal test has left are not made again, so an interrupted one goes on. Several
    processes share the images; all write to the same folder.

    Args:
        options: the `TestConfig`; config: the experiment's `RunConfig`; plan: a `sheets.Plan`.

    Raises:
        UserError: the folder has sheets of another test, or no image is readable.
        Interrupted: after SIGINT or SIGTERM, when a batch is finished.
    """
    with engines.joined(options.distribute) as workers:
        _make_sheets(options, config, plan, workers)


def _make_sheets(options, config, plan, workers):
    """`make_sheets` of one of the workers; the first one looks after the folder."""
    utils.select_gpus(collective.gpus_of(options.gpu, workers))
    celeba, indices = selected_images(config, options)
    celeba.paths(indices)    # all of them are there
    path = options.output_dir or os.path.join(options.folder, plan.folder)
    require_place(path, '--output_dir')
    labels = OrderedDict((f'{index + 1:06d}{plan.suffix}.png',
                          (celeba.names[index], celeba.labels[index])) for index in indices)
    distributed.meet_over(workers, labels, options)
    threads = collective.threads_of(options.threads, workers)
    with contextlib.nullcontext() if workers.rank else FolderLock(path), \
            Editor(options.folder, options.device, options.precision, threads, options.edit_batch,
                   options.npu_option) as editor:
        settings = _sheet_settings(plan, editor, options, celeba)
        folder, done = None, []
        if not workers.rank:
            remove_unfinished(path)
            settings['chosen'] = _choice(path, options, celeba, indices)
            folder = sheets.TestFolder(path, settings, plan.columns, labels)
            done = _begin(folder, options, plan, editor, celeba, len(indices))
            if workers.size > 1 and len(done) < len(labels):
                _describe(folder, options.clear)    # before another worker writes to it
        brought = workers.exchange({'weights': settings['weights'], 'done': done})
        for rank, facts in enumerate(brought):
            if facts['weights'] != brought[0]['weights']:
                raise UserError(f'{workers.name(rank)} has another checkpoint than worker 0; copy '
                                'the experiment folder')
        done = set(brought[0]['done'])
        todo = OrderedDict((name, index) for name, index in zip(labels, indices)
                           if name not in done)
        describe = (functools.partial(_describe, folder, options.clear) if workers.size == 1
                    else None)
        unreadable = _edit_and_write(options, plan, editor, celeba,
                                     OrderedDict(workers.share(todo.items())), path, describe)
        reasons = dict(pair for pairs in workers.exchange(list(unreadable.items()))
                       for pair in pairs)
        if workers.rank:
            return
        unreadable = OrderedDict((name, reasons[name]) for name in todo if name in reasons)
        if len(unreadable) == len(indices):
            raise UserError(f'{celeba.paths(indices[:1])[0]}: unusable image, as are all '
                            'others of this test; scripts/check_data.py finds all such')
        if unreadable:
            folder.write_description(unreadable)
    print((f'wrote {path}' if len(unreadable) < len(todo) else f'nothing new in {path}')
          + (f'; {len(unreadable)} of {counted(len(indices), "image")} unusable, see '
             f'{sheets.DESCRIPTION}' if unreadable else ''))
    reports.name_report(options.folder)


def _begin(folder, options, plan, editor, celeba, images):
    """Tell what will be done in a `sheets.TestFolder`; returns the names of what is done already.
    """
    if not options.clear:
        folder.refuse_conflict('name another folder with --output_dir, or let --clear remove them')
    done = [] if options.clear else sorted(folder.finished)
    print(f'{counted(images, "image")}, {counted(len(plan.columns), "result")} each, by '
          f'{editor.checkpoint}'
          + (f'; {len(done)} are there already, --clear makes them anew' if done else ''),
          flush=True)
    for note in celeba.notes:
        print(note, flush=True)
    return done


def _edit_and_write(options, plan, editor, celeba, todo, path, describe=None):
    """Make the sheets of `todo`, {sheet name: list position from 0}, in the folder `path`.

    Args:
        describe: function that is called before the first of them is written.

    Returns:
        {sheet name: reason} of images that could not be read.
    """
    if not todo:
        return {}
    names, indices = list(todo), np.array(list(todo.values()))
    paths, unreadable = celeba.paths(indices), []
    batches = data.load_images(paths, editor.config.img_size, celeba.crop,
                               max(1, editor.results_per_run // len(plan.columns)),
                               unreadable=unreadable)
    # Sheets are composed, compressed and written while the next batch is edited.
    with StopRequest() as stop, ThreadPoolExecutor(usable_cores()) as writers, \
            progress(total=len(todo), unit='image') as bar:
        writing = []
        for positions, images in batches:
            if stop.requested:
                raise stop.interruption(
                    f'stopped with {counted(len(todo) - bar.n, "sheet")} to go; the same command '
                    f'{"without --clear " if options.clear else ""}goes on')
            labels = celeba.labels[indices[positions]]
            results = editor.edit_batch(images, plan.targets(labels),
                                        attributes.signed(labels, editor.config.thres_int))
            if describe:
                # Only now: nothing is written or removed before the first images were good.
                describe()
                describe = None
            _finish(writing)
            writing = [writers.submit(_write_sheet, os.path.join(path, names[position]),
                                      image, edits)
                       for position, image, edits in zip(positions, images, results)]
            bar.update(positions[-1] + 1 - bar.n)
        _finish(writing)
    reasons = dict(unreadable)
    return OrderedDict((name, reasons[path]) for name, path in zip(names, paths)
                       if path in reasons)


def _describe(folder, clear):
    """Write the description of sheets that follow, in the place of others if `clear`."""
    if clear:
        print(f'--clear: removing {counted(len(folder.clear()), "sheet")} from {folder.path}',
              flush=True)
    folder.write_description()


def _write_sheet(path, image, edits):
    imlib.write(path, sheets.compose(image, edits))


def _finish(writing):
    """Wait for written sheets; raises what went wrong."""
    for sheet in writing:
        sheet.result()


def _choice(path, options, celeba, indices):
    """Of what the images of a test are; figures of the test split are not to take in others.

    Single images of the test split may go into a folder of single images as well.
    """
    if options.img:
        with contextlib.suppress(UserError):
            if read_json(os.path.join(path, sheets.DESCRIPTION)).get('chosen') == BY_POSITION:
                return BY_POSITION
    return choice(celeba, indices)


def choice(celeba, indices):
    """In words, whether list positions (from 0) are of the test split only."""
    return 'test split' if np.isin(indices, celeba.part('test')).all() else BY_POSITION


def _sheet_settings(plan, editor, options, celeba):
    """What tells sheets that belong together from others; see `sheets.TestFolder`."""
    config = editor.config
    return OrderedDict(
        mode=plan.mode, img_size=config.img_size, attributes=list(config.atts),
        thres_int=config.thres_int, checkpoint=os.path.basename(editor.checkpoint),
        weights=checkpoint.fingerprint(editor.checkpoint), precision=options.precision,
        images=os.path.abspath(celeba.folder))
