"""The page in a real browser: what a user does, from loading a photo to the download."""

import base64
import io
import json
import shlex
import shutil
import time

import numpy as np
import people
import pytest
from browser import CHROMIUM, Browser
from exported import set_label
from pages import make_experiment, serve
from PIL import Image

from stgan.editing import Editor
from stgan.page import Page

pytestmark = pytest.mark.skipif(not CHROMIUM,
                                reason='no Chromium on the PATH (apt-get install chromium)')
IDLE = '!asking && !!state.before'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A working directory with output/toy."""
    folder = tmp_path_factory.mktemp('browser')
    make_experiment(folder / 'output' / 'toy')
    return folder


@pytest.fixture(scope='module')
def served(folder):
    experiment = str(folder / 'output' / 'toy')
    with Editor(experiment, device='cpu', threads=2) as editor, \
            serve(Page(editor), experiment) as server:
        yield server


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    browser = Browser(str(tmp_path_factory.mktemp('profile')))
    yield browser
    browser.close()


def opened(browser, served, **options):
    """A tab with the page, ready."""
    tab = browser.open(served.address, **options)
    tab.wait('document.body && document.body.dataset.ready')
    return tab


def load(tab, path):
    """Choose a photo, and wait until it is shown."""
    tab.choose_file('#file', path)
    tab.wait(f'document.body.dataset.photo && {IDLE}')


def slide(tab, name, *values):
    """Move a slider through values, as dragging does, and let it go."""
    tab.run(f'''(() => {{
        const slider = document.getElementById('slider-{name}');
        for (const value of {json.dumps(values)}) {{
            slider.value = value;
            slider.dispatchEvent(new Event('input', {{bubbles: true}}));
        }}
        slider.dispatchEvent(new Event('change', {{bubbles: true}}));
    }})()''')
    tab.wait(IDLE)


def shown(tab, canvas='after()'):
    """The pixels of what is shown: int [H,W,3]."""
    data = tab.run(f'{canvas}.toDataURL()')
    return pixels(base64.b64decode(data.partition(',')[2]))


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB')).astype(int)


def text(tab, selector):
    return tab.run(f'document.querySelector({json.dumps(selector)}).innerText')


def test_from_photo_to_download(browser, served, folder, tmp_path, run):
    tab = opened(browser, served, downloads=tmp_path)
    load(tab, people.ASTRONAUT)
    source = people.pixels(people.ASTRONAUT)
    tab.run("document.querySelector('[data-kind=photo]').click()")
    tab.wait(f"{IDLE} && state.kind === 'photo' && state.before.width === 512")
    assert (shown(tab) == source).all() and 'One face' in text(tab, '#faces-note')
    # Many wishes while one is under way: only the newest ones are asked for.
    before = len(tab.requests())
    slide(tab, 'Eyeglasses', *[i / 20 for i in range(1, 30)], 1)
    assert 1 <= len(tab.requests()) - before <= 6
    assert text(tab, '#milliseconds').endswith(' ms')
    slide(tab, 'Male', -.5)
    edited = shown(tab)

    # The same command gives the same pixels, and so does the download.
    shutil.copytree(str(folder / 'output'), str(tmp_path / 'output'))
    shutil.copy(people.ASTRONAUT, str(tmp_path / 'astronaut.png'))
    command = tab.run("document.getElementById('command').textContent").split()
    assert command[:3] == ['python', 'scripts/edit_photos.py', 'astronaut.png']
    done = run('scripts/edit_photos.py', *command[2:], '--output_dir', 'out')
    assert done.status == 0, done.err
    expected = (tmp_path / 'out' / 'astronaut.png').read_bytes()
    assert (pixels(expected) == edited).all() and (edited != source).any()
    tab.click('#download')
    path, end = tmp_path / 'astronaut_edited.png', time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(.05)
    assert (pixels(path.read_bytes()) == edited).all()
    assert Image.open(str(path)).info['stgan'] == Image.open(io.BytesIO(expected)).info['stgan']

    # Before and after, undo and redo, reset.
    tab.run("byId('compare').value = 100; byId('compare').dispatchEvent(new Event('input'))")
    assert (shown(tab, "byId('canvas')") == source).all()
    tab.run("byId('compare').value = 0; byId('compare').dispatchEvent(new Event('input'))")
    assert (shown(tab, "byId('canvas')") == edited).all()
    tab.click('#undo')
    tab.wait(IDLE)
    assert tab.run('JSON.stringify(state.values)') == '{"Eyeglasses":1}'
    tab.press('z', modifiers=2 | 8)    # Ctrl+Shift+Z
    tab.wait(f'state.values.Male && {IDLE}')
    assert (shown(tab) == edited).all()
    tab.run("document.querySelector('#slider-Male').dispatchEvent("
            "new MouseEvent('dblclick', {bubbles: true}))")
    assert tab.run('state.values.Male') is None
    tab.click('#reset')
    tab.wait(IDLE)
    assert (shown(tab) == source).all() and tab.run("byId('reset').disabled")

    # A recipe that is pasted.
    tab.run("byId('recipe').value = 'Eyeglasses=1 Male=-0.5'; byId('apply').click()")
    tab.wait(f'state.values.Male === -0.5 && {IDLE}')
    assert (shown(tab) == edited).all()
    tab.run("byId('recipe').value = 'Nose=1'; byId('apply').click()")
    assert 'Nose' in tab.wait("!byId('error').hidden && byId('error').innerText")
    outside = [url for url in tab.requests()
               if not url.startswith((served.address, 'data:', 'blob:'))]
    assert not outside
    said = [each for each in tab.complaints() if '422' not in str(each)]
    assert not said, said


@pytest.mark.slow
def test_target_labels(browser, tmp_path, monkeypatch, run):
    """What is ticked counts for edit, strip, command, recipe and undo."""
    make_experiment(tmp_path / 'output' / 'toy')
    set_label(tmp_path, 'target')
    monkeypatch.chdir(tmp_path)    # where the command finds the experiment by a short name
    shutil.copy(people.ASTRONAUT, str(tmp_path / 'a photo.png'))
    experiment = str(tmp_path / 'output' / 'toy')
    with Editor(experiment, device='cpu', threads=2) as editor, \
            serve(Page(editor), experiment) as server:
        tab = opened(browser, server)
        load(tab, tmp_path / 'a photo.png')
        tab.run("document.querySelector('[data-kind=photo]').click()")
        slide(tab, 'Male', 1)
        command = "document.getElementById('command').textContent"
        assert tab.run(command).endswith('--set Male=1 --labels none')
        unticked = shown(tab)
        tab.run("document.querySelector('#labels input[value=Bangs]').click()")
        tab.wait(IDLE)
        edited = shown(tab)
        assert (edited != unticked).any()
        words = shlex.split(tab.run(command))
        assert words[2:5] == ['a photo.png', '--experiment_name', 'output/toy']
        done = run('scripts/edit_photos.py', *words[2:], '--output_dir', 'out')
        assert done.status == 0, done.err
        made = tmp_path / 'out' / 'a photo.png'
        assert (pixels(made.read_bytes()) == edited).all()
        tab.click('#undo')
        tab.wait(IDLE)
        assert tab.run(command).endswith('--labels none') and (shown(tab) == unticked).all()
        recipe = json.loads(Image.open(str(made)).info['stgan'])
        recipe['labels'] = [recipe['labels']]    # of each face, as of a classifier
        tab.run(f"byId('recipe').value = {json.dumps(json.dumps(recipe))}; byId('apply').click()")
        tab.wait(f'state.labels.length === 1 && {IDLE}')
        assert tab.run("document.querySelector('#labels input[value=Bangs]').checked")
        assert (shown(tab) == edited).all()


def test_views_of_an_edit(browser, served):
    tab = opened(browser, served)
    load(tab, people.HOPPER)
    slide(tab, 'Bangs', 2)
    before, after = shown(tab, 'state.before'), shown(tab)
    most = np.abs(after - before).max()
    tab.press('d')
    assert f'the largest change is {most}' in text(tab, '#legend-text') and most > 5
    # Where nothing changes the map is as dark as it gets, and nowhere else.
    heat = shown(tab, "byId('canvas')")
    unchanged = (after == before).all(axis=2)
    assert (heat[unchanged] == [0, 0, 4]).all() and heat[~unchanged].sum() > 0
    tab.press('g')
    tab.wait("document.querySelectorAll('#gate-maps canvas').length === 8")
    sizes = tab.run("Array.from(document.querySelectorAll('#gate-maps canvas'), c => c.width)")
    assert sizes == [2, 4, 8, 16] * 2
    assert 'mean 0.' in text(tab, '#gate-maps')
    tab.run("document.querySelector('[data-mode=change]').click()")
    assert '±' in text(tab, '#gate-maps')
    tab.press('r')
    tab.run("byId('strip-part').open = true")
    tab.wait("document.querySelectorAll('#strip canvas').length === 3")
    tab.run("document.querySelector('#strip li:nth-child(2) button').click()")
    assert tab.run('state.values.Eyeglasses') == 1


def test_two_users_do_not_see_each_other(browser, served):
    first, second = opened(browser, served), opened(browser, served)
    load(first, people.ASTRONAUT)
    load(second, people.HOPPER)
    slide(first, 'Eyeglasses', 1)
    slide(second, 'Eyeglasses', -1)
    assert first.run('state.photo.id') != second.run('state.photo.id')
    assert shown(first).shape != shown(second).shape
    assert first.run('state.values.Eyeglasses') == 1
    alone = shown(first)
    slide(first, 'Eyeglasses', 0, 1)
    assert (shown(first) == alone).all()


@pytest.mark.parametrize('content, said', [
    (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'not a JPEG, PNG, WebP or TIFF'),
    (b'\x89PNG\r\n\x1a\n' + bytes(50), 'me.png'), (bytes((20 << 20) + 1), 'more than 20 MB')],
    ids=range(3))
def test_errors_are_told_in_words(browser, served, tmp_path, content, said):
    tab = opened(browser, served)
    (tmp_path / 'me.png').write_bytes(content)
    tab.choose_file('#file', tmp_path / 'me.png')
    assert said in tab.wait("!byId('error').hidden && byId('error').innerText")
    assert tab.run("byId('studio').hidden")


def test_a_photo_without_a_face(browser, served):
    tab = opened(browser, served)
    load(tab, people.WITHOUT_FACE[1])
    assert 'No face found' in text(tab, '#faces-note')
    assert tab.run("byId('download').disabled && byId('slider-Male').disabled")


def test_a_photo_that_is_forgotten(browser, served):
    tab = opened(browser, served)
    load(tab, people.HOPPER)
    served.page.forget(tab.run('state.photo.id'))
    tab.run("byId('slider-Male').value = 1; "
            "byId('slider-Male').dispatchEvent(new Event('input'))")
    assert 'forgotten' in tab.wait("!byId('error').hidden && byId('error').innerText")
    assert tab.run("!byId('start').hidden")


def test_on_a_phone_the_picture_stays_in_view(browser, served):
    tab = opened(browser, served, width=360, height=640, dark=True)
    load(tab, people.HOPPER)
    tab.run("byId('slider-Male').scrollIntoView({block: 'end'})")
    place = json.loads(tab.run('''(() => {
        const box = id => byId(id).getBoundingClientRect();
        return JSON.stringify({stage: box('stage'), slider: box('slider-Male'),
            width: document.documentElement.scrollWidth});
    })()'''))
    assert place['width'] <= 360
    assert place['stage']['top'] >= 0 and place['stage']['bottom'] < place['slider']['top'] < 640
    back = tab.run('getComputedStyle(document.body).backgroundColor')
    assert max(map(int, back[4:-1].split(','))) < 60    # dark


def test_keyboard_and_screen_reader(browser, served):
    tab = opened(browser, served)
    load(tab, people.ASTRONAUT)
    unnamed = tab.run('''Array.from(document.querySelectorAll('button, input, select, textarea'))
        .filter(e => e.offsetParent && !(e.textContent.trim() || e.getAttribute('aria-label') ||
            (e.labels && e.labels.length && e.labels[0].textContent.trim())))
        .map(e => e.outerHTML)''')
    assert unnamed == []
    tab.run("byId('slider-Bangs').focus()")
    tab.press('ArrowRight', code=39)
    tab.press('ArrowRight', code=39)
    tab.wait(f'state.values.Bangs === 0.1 && {IDLE}')
    assert tab.run("byId('slider-Bangs').getAttribute('aria-valuetext')") == '+0.1'
    tab.press('Delete', code=46)
    assert tab.run('state.values.Bangs') is None
    assert '0, untouched' in tab.run("byId('slider-Bangs').getAttribute('aria-valuetext')")


def test_a_training_is_watched_live(browser, served, folder):
    tab = opened(browser, served)
    tab.click('#tab-training')
    tab.wait("document.body.dataset.training === 'toy'")
    assert '60 of' in text(tab, '#facts')
    assert 'generator loss' in text(tab, '#curves')
    assert tab.run("document.querySelectorAll('#curves path').length") >= 4
    assert 'epoch 4, iteration 14 of 14 (2 of 2)' in text(tab, '#sample-name')
    tab.run("byId('time').value = 0; byId('time').dispatchEvent(new Event('input'))")
    tab.wait("byId('sample').src.includes('Epoch_(0)') && byId('sample').naturalWidth === 64")
    assert 'Epoch_(3)_(14of14).ckpt' in text(tab, '#checkpoints')
    with open(str(folder / 'output' / 'toy' / 'metrics.jsonl'), 'a') as stream:
        stream.write('{"iteration": 61, "epoch": 4, "lr": 0.001, "g_loss": 3.0}\n')
    tab.wait("byId('facts').innerText.includes('61 of')")
    # Who looks at an earlier sheet keeps it.
    assert tab.run("byId('time').value") == '0'
