"""What test.py does: sheets of edited test images."""

import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

import imlib
from pylib import FolderLock, StopRequest, UserError, remove_unfinished, usable_cores
from stgan import attributes, data, sheets
from stgan.celeba import CelebA
from stgan.editing import Editor
from tflib import checkpoint, npu, utils


def selected_images(config, options):
    """Return (CelebA, 0-based list positions int64 [n]) of a test."""
    celeba = CelebA(options.dataroot or config.dataroot, config.atts, config.split,
                         config.use_cropped_img)
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


def show_session(options):
    """Print how the session of a test would be configured, on this machine or another."""
    device = utils.resolve_device('auto') if options.device == 'auto' else options.device
    npu_options = (npu.inference_options(options.precision, options.npu_option)
                   if device == 'npu' else None)
    session_config = utils.session_config(device, options.precision, options.threads, npu_options,
                                          optimize=False)
    print('\n'.join(utils.describe_session(session_config, device, options.precision)))


def make_sheets(options, config, plan):
    """Edit test images and write one sheet per image into the experiment folder.

    Sheets that an equal test has left are not made again, so an interrupted one goes on.

    Args:
        options: the `TestConfig`; config: the experiment's `RunConfig`; plan: a `sheets.Plan`.

    Raises:
        Interrupted: after SIGINT or SIGTERM, when a batch is finished.
    """
    utils.select_gpus(options.gpu)
    celeba, indices = selected_images(config, options)
    celeba.paths(indices)    # all of them are there
    folder = os.path.join(options.folder, plan.folder)
    labels = OrderedDict((f'{index + 1:06d}{plan.suffix}.png',
                          (celeba.names[index], celeba.labels[index])) for index in indices)
    with FolderLock(folder), Editor(options.folder, options.device, options.precision,
                                    options.threads, options.edit_batch,
                                    options.npu_option) as editor:
        remove_unfinished(folder)
        description = folder, _sheet_settings(plan, editor, options, celeba), plan.columns, labels
        done = set() if options.clear else sheets.finished(*description)
        print(f'{len(indices)} images, {len(plan.columns)} results each, by {editor.checkpoint}'
              + (f'; {len(done)} are there already, --clear makes them anew' if done else ''),
              flush=True)
        todo = [(name, index) for name, index in zip(labels, indices) if name not in done]
        if todo:
            _edit_and_write(options, plan, editor, celeba, todo, description)
    print(f'wrote {folder}')


def _edit_and_write(options, plan, editor, celeba, todo, description):
    """Make the sheets of `todo`, a list of (sheet name, list position from 0)."""
    folder, thres_int = description[0], editor.config.thres_int
    size = max(1, options.edit_batch // len(plan.columns))
    batches = data.load_images(celeba.paths([index for _, index in todo]), editor.config.img_size,
                               celeba.crop, size)
    progress = tqdm(batches, total=-(-len(todo) // size), unit='batch', dynamic_ncols=True)
    # Sheets are composed, compressed and written while the next batch is edited.
    with StopRequest() as stop, ThreadPoolExecutor(usable_cores()) as writers:
        writing = []
        for number, images in enumerate(progress):
            if stop.requested:
                raise stop.interruption(f'stopped with {len(todo) - number * size} sheets to go; '
                                        'the same command goes on')
            batch = todo[number * size:number * size + len(images)]
            labels = celeba.labels[[index for _, index in batch]]
            results = editor.edit_batch(images, plan.targets(labels),
                                        attributes.signed(labels, thres_int))
            if not number:
                # Only now: nothing is written before the first images were good.
                sheets.write_description(*description)
            _finish(writing)
            writing = [writers.submit(_write_sheet, os.path.join(folder, name), image, edits)
                       for (name, _), image, edits in zip(batch, images, results)]
        _finish(writing)


def _write_sheet(path, image, edits):
    imlib.write(path, sheets.compose(image, edits))


def _finish(writing):
    """Wait for written sheets; raises what went wrong."""
    for sheet in writing:
        sheet.result()


def _sheet_settings(plan, editor, options, celeba):
    """What tells sheets that belong together from others; see `sheets.write_description`."""
    config = editor.config
    return OrderedDict(
        mode=plan.mode, img_size=config.img_size, attributes=list(config.atts),
        thres_int=config.thres_int, checkpoint=os.path.basename(editor.checkpoint),
        weights=checkpoint.fingerprint(editor.checkpoint), precision=options.precision,
        images=os.path.abspath(celeba.folder))
