"""What scripts/page.py does: a model is loaded, a page is served until a signal comes."""

import functools
import os
import secrets
import time
import webbrowser

import matplotlib
import skimage

import stgan
from pylib import StopRequest, warn
from stgan import page_server
from stgan.watching import Watcher

DRAWN = 1, 4, 6          # numbers of the drawn faces that are examples
FORGET_SECONDS = 20      # between looks for photos that are too old
# Photos that come with installed packages: their rights are clear.
PHOTOS = {
    'Eileen Collins': os.path.join(os.path.dirname(skimage.__file__), 'data', 'astronaut.png'),
    'Grace Hopper': os.path.join(matplotlib.get_data_path(), 'sample_data', 'grace_hopper.jpg')}


def run(options, folder, drawn_face):
    """Serve the page until SIGINT or SIGTERM.

    Args:
        options: the `PageConfig`; folder: of the page's files.
        drawn_face: function from a number to the bytes of an image of a drawn face.

    Raises:
        UserError: no model, or the address cannot be listened on.
    """
    listener = page_server.listen(options.host, options.port)
    page = _page(options) if options.folder else None
    application, address = prepare(options, folder, drawn_face, page, listener)
    with StopRequest() as stop:
        server = page_server.Server(application, listener)
        server.start()
        print(f'{"editing with " + options.folder if page else "watching output/"}: {address}\n'
              'Ctrl-C ends it', flush=True)
        if options.open:
            webbrowser.open(address)
        looked = time.monotonic()
        while server.is_alive and not stop.requested:
            time.sleep(.1)
            if page and time.monotonic() > looked + FORGET_SECONDS:
                page.forget()
                looked = time.monotonic()
        server.stop()
    print('closed; all photos are forgotten', flush=True)


def _page(options):
    """The `Page` of the model. Who watches trainings only does without TensorFlow."""
    from stgan.editing import Editor  # noqa: PLC0415
    from stgan.page import Page  # noqa: PLC0415
    from tflib import utils  # noqa: PLC0415
    utils.select_gpus(options.gpu)
    return Page(Editor(options.folder, options.device, options.precision, options.threads))


def prepare(options, folder, drawn_face, page, listener):
    """(the application, the address to open)."""
    port, is_local = listener.getsockname()[1], page_server.is_loopback(options.host)
    token = '' if is_local else secrets.token_urlsafe(16)
    names = (*page_server.LOOPBACK, options.host) if is_local else None
    handlers = page_server.Handlers(page, Watcher(more=[options.folder] if page else ()),
                                    _about(options, page), _examples(drawn_face))
    application = page_server.Guard(page_server.application(handlers, folder), port, names, token)
    host = f'[{options.host}]' if ':' in options.host else options.host
    if not is_local:
        warn(f'--host {options.host}: whoever can reach this machine and knows the address below '
             'can use the page; what is sent is not encrypted')
        if options.host in ('0.0.0.0', '::'):
            host = 'localhost'
    return application, f'http://{host}:{port}/' + (f'?token={token}' if token else '')


def _about(options, page):
    """What the page shows of the model."""
    if page is None:
        return {'version': stgan.__version__, 'experiment': None}
    config = page.config
    return {'version': stgan.__version__, 'experiment': config.experiment_name,
            'name': _named(options.experiment_name),
            'weights': page.weights, 'img_size': config.img_size, 'attributes': config.atts,
            'label': config.label, 'drawn': _is_drawn(options.folder, config),
            'aligned': not config.use_cropped_img}


def _named(name):
    """What --experiment_name says, shorter where a path leads below the working directory."""
    shorter = os.path.relpath(name) if os.path.isabs(name) else '..'
    return name if shorter.startswith('..') or '/' not in shorter else shorter


def _is_drawn(folder, config):
    """Whether the model was trained on drawn faces, which the data set or the model says."""
    return any(os.path.exists(os.path.join(place, 'toy.json'))
               for place in (folder, config.dataroot)) or (
        os.path.basename(os.path.abspath(config.dataroot)) == 'toy')


def _examples(drawn_face):
    """{name: function that returns the bytes of an image file}."""
    examples = {f'Drawn face {place}': functools.partial(drawn_face, number)
                for place, number in enumerate(DRAWN, 1)}
    for name, path in PHOTOS.items():
        if os.path.exists(path):
            examples[name] = functools.partial(_content, path)
    return examples


def _content(path):
    with open(path, 'rb') as stream:
        return stream.read()
