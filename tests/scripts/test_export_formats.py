"""Exports to other formats: the Editor's results, names, shapes and metadata; clients in the docs.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, NO_NETWORK, Browser
from conftest import ROOT, run_cli
from exported import set_label

import imlib
from pylib import RunFailed
from stgan import export
from stgan.config import RunConfig, load_config
from stgan.editing import EditGraph, Editor
from tflib import checkpoint, tf

EXPORT = ('scripts/export.py', '--experiment_name', 'toy', '--format')
IS_CLASSIC = tf.__version__.startswith('1.')
RUNTIME = ROOT / 'node_modules' / 'onnxruntime-web'
NODE = shutil.which('node')
needs_runtime = pytest.mark.skipif(not RUNTIME.exists(), reason='no onnxruntime-web in the '
                                   'checkout (npm install --no-save onnxruntime-web)')


@pytest.fixture
def workspace(tmp_path):
    """tmp_path with output/toy, an experiment with random weights: three layers convert fast."""
    config = RunConfig(experiment_name='toy', img_size=32, enc_dim=4, dec_dim=4, stu_dim=4,
                       enc_layers=3, dec_layers=3, stu_layers=2, shortcut_layers=2,
                       inject_layers=2, stu_inject_layers=2).check()
    folder, random = tmp_path / 'output' / 'toy', np.random.RandomState(3)
    with tf.Graph().as_default(), tf.Session() as session:
        EditGraph(config)
        for variable in tf.global_variables():
            # Variances and scales are positive.
            is_positive = variable.op.name.endswith(('gamma', 'variance'))
            values = random.uniform(.5 if is_positive else -.3, 1.5 if is_positive else .3,
                                    variable.shape.as_list())
            session.run(variable.initializer, {variable.initializer.inputs[1]: values})
        checkpoint.Checkpoints(str(folder / 'checkpoints'), 1).save(session, 'Epoch_(2).ckpt')
    config.save(str(folder))
    return tmp_path


def edits(folder, count=2, each=4):
    """(images, differences, what the Editor makes of them) for an experiment."""
    random = np.random.RandomState(7)
    images = random.uniform(-1, 1, [count, 32, 32, 3]).astype(np.float32)
    differences = random.uniform(-1, 1, [count, each, 13]).astype(np.float32)
    with Editor(str(folder), device='cpu') as editor:
        return images, differences, editor.edit_batch(images, differences, np.zeros([count, 13]))


def check_metadata(found, inputs):
    """`found`: as JSON values."""
    assert found['inputs'] == inputs and found['output'] == 'edited'
    assert found['attributes'][:2] == ['Bald', 'Bangs'] and len(found['attributes']) == 13
    assert (found['img_size'], found['thres_int'], found['range']) == (32, .5, [-1, 1])
    assert found['checkpoint'] == 'Epoch_(2).ckpt' and len(found['weights']) == 8
    assert re.match(r'\d+\.\d+', found['version'])


def client(language, heading):
    """The example under a heading of the docs, for the toy experiment."""
    text = (ROOT / 'docs' / 'export.md').read_text('utf-8')
    section = text.partition(f'\n## {heading}\n')[2].partition('\n## ')[0]
    (code,) = re.findall(f'```{language}\n(.*?)```', section, re.S)
    return (code.replace('output/128/128', 'output/toy/toy').replace('128 * 128', '32 * 32')
            .replace('128, 128', '32, 32'))


def run_client(code, cwd):
    """What an example prints, run with nothing of this project."""
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run([sys.executable, '-c', code], cwd=str(cwd), env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_onnx(run, workspace):
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('tf2onnx')
    experiment = workspace / 'output' / 'toy'
    done = run(*EXPORT, 'onnx')
    assert done.status == 0, done.err
    assert re.search(r'largest difference .* [\d.]+e-0[678], limit 1e-05', done.out)
    session = onnxruntime.InferenceSession(str(experiment / 'toy.onnx'),
                                           providers=['CPUExecutionProvider'])
    shapes = {each.name: each.shape for each in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {'image': ['N', 32, 32, 3], 'difference': ['N', 'E', 13],
                      'edited': ['N', 'E', 32, 32, 3]}
    about = session.get_modelmeta().custom_metadata_map
    texts = ('output', 'label', 'experiment', 'checkpoint', 'weights', 'version')
    check_metadata({name: value if name in texts else json.loads(value)
                    for name, value in about.items()}, ['image', 'difference'])
    for count, each in ((2, 4), (1, 1)):
        images, differences, wanted = edits(experiment, count, each)
        found, = session.run(['edited'], {'image': images, 'difference': differences})
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    face = np.random.RandomState(0).randint(0, 256, [50, 40, 3]).astype(np.uint8)
    imlib.write(str(workspace / 'face.png'), face)
    run_client(client('python', 'Python, ONNX Runtime'), workspace)
    for name in ('eyeglasses.png', 'old.png'):
        assert imlib.size(str(workspace / name)) == (32, 32)
    if NODE and RUNTIME.exists():
        done = subprocess.run([NODE, '-e', client('js', 'JavaScript')], cwd=str(workspace),
                              env=dict(os.environ, NODE_PATH=str(RUNTIME.parent)),
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert re.sub(r'\s+', ' ', done.stdout).startswith('[ 1, 2, 32, 32, 3 ] 0.')


@pytest.mark.slow
def test_labels_instead_of_their_difference(workspace):
    folder = str(workspace / 'output' / 'toy')
    config, path = load_config(folder)[0], checkpoint.require_latest(folder + '/checkpoints')
    images, differences, wanted = edits(folder)
    sources = np.full([2, 13], .5, np.float32)
    found = export.run_graph(export.frozen(config, path, 'labels'), 'edited:0', {
        'image:0': images, 'source:0': sources,
        'target:0': sources[:, np.newaxis] + differences})
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
def test_onnx_in_float16_told_target_labels(run, workspace):
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('tf2onnx')
    set_label(workspace, 'target')
    done = run(*EXPORT, 'onnx-fp16', '--output', 'small.onnx')
    assert done.status == 0, done.err
    session = onnxruntime.InferenceSession(str(workspace / 'small.onnx'),
                                           providers=['CPUExecutionProvider'])
    assert [each.name for each in session.get_inputs()] == ['image', 'source', 'target']
    assert {each.type for each in session.get_inputs()} == {'tensor(float)'}
    images, targets, _ = edits(workspace / 'output' / 'toy')
    sources = np.random.RandomState(1).choice([-.5, .5], [2, 13]).astype(np.float32)
    with Editor(str(workspace / 'output' / 'toy'), device='cpu') as editor:
        wanted = editor.edit_batch(images, targets, sources)
    found, = session.run(None, {'image': images, 'source': sources, 'target': targets})
    error = np.abs(found - wanted).max()
    assert 1e-6 < error < 5e-3    # 16 bits indeed


def test_saved_model(run, workspace):
    done = run(*EXPORT, 'savedmodel')
    assert done.status == 0, done.err
    folder = workspace / 'output' / 'toy' / 'toy_savedmodel'
    check_metadata(json.loads((folder / 'assets.extra' / 'metadata.json').read_text()),
                   ['image', 'difference'])
    images, differences, wanted = edits(workspace / 'output' / 'toy')
    sources = np.full([2, 13], .5, np.float32)
    given = {'image': images, 'difference': differences, 'source': sources,
             'target': sources[:, np.newaxis] + differences}
    with tf.Graph().as_default(), tf.Session() as session:
        signatures = tf.saved_model.load(session, ['serve'], str(folder)).signature_def
        for key, names in (('serving_default', ['difference', 'image']),
                           ('labels', ['image', 'source', 'target'])):
            signature = signatures[key]
            assert sorted(signature.inputs) == names and list(signature.outputs) == ['edited']
            assert signature.method_name == 'tensorflow/serving/predict'
            shape = signature.inputs['image'].tensor_shape.dim
            assert [each.size for each in shape] == [-1, 32, 32, 3]
            found = session.run(signature.outputs['edited'].name, {
                signature.inputs[name].name: given[name] for name in names})
            np.testing.assert_allclose(found, wanted, atol=1e-5)
    if not IS_CLASSIC:
        out = run_client(client('python', 'Python, TensorFlow 2'), workspace)
        assert out == '(1, 14, 32, 32, 3)\n'
        check_c_client(workspace)


def check_c_client(workspace):
    """Compile the C example with what pip's TensorFlow has, and compare what it prints."""
    if not shutil.which('gcc'):
        return
    (workspace / 'client.c').write_text(
        client('c', 'C, TensorFlow').replace('SIZE 128', 'SIZE 32'))
    library = Path(tf.sysconfig.get_lib())
    subprocess.run(['gcc', 'client.c', '-o', 'client', f'-I{library}/include',
                    *map(str, sorted(library.glob('libtensorflow*.so.2'))),
                    f'-Wl,-rpath,{library}'], cwd=str(workspace), check=True)
    printed = subprocess.run(['./client'], cwd=str(workspace), stdout=subprocess.PIPE, check=True)
    with Editor(str(workspace / 'output' / 'toy'), device='cpu') as editor:
        edited = editor.edit(np.zeros([32, 32, 3], np.float32),
                             np.repeat([[0.], [1.]], 13, axis=1))
    assert printed.stdout.decode() == ''.join(
        f'edit {number}: first pixel {each[0, 0, 0]:.4f}\n' for number, each in enumerate(edited))


def test_tflite(workspace):
    done = run_cli(*EXPORT, 'tflite', cwd=workspace)    # a process that looks for GPUs anew
    if IS_CLASSIC:
        assert done.status == 2 and done.err.count('\n') == 1, done.err
        assert 'export on TensorFlow 2.15 or later' in done.err
        assert not list(workspace.rglob('*.tflite'))
        return
    assert done.status == 0 and not done.err, done.err    # of absent GPUs, say
    path = workspace / 'output' / 'toy' / 'toy.tflite'
    with zipfile.ZipFile(str(path)) as archive:
        check_metadata(json.loads(archive.read('metadata.json').decode()), ['image', 'difference'])
    images, differences, wanted = edits(workspace / 'output' / 'toy')
    interpreter = tf.lite.Interpreter(str(path))
    inputs = {each['name'].split(':')[0]: each['index']
              for each in interpreter.get_input_details()}
    for name, values in (('image', images), ('difference', differences)):
        interpreter.resize_tensor_input(inputs[name], values.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(inputs['image'], images)
    interpreter.set_tensor(inputs['difference'], differences)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]['index'])
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    out = run_client(client('python', 'Python, TensorFlow Lite'), workspace)
    assert out == '(1, 3, 32, 32, 3)\n'


@needs_runtime
@pytest.mark.skipif(not CHROMIUM, reason='no Chromium on the PATH')
def test_a_page_edits_without_server_and_network(run, workspace):
    pytest.importorskip('onnxruntime')
    done = run(*EXPORT, 'web', '--output', 'page', '--runtime', RUNTIME)
    assert done.status == 0, done.err
    assert 'open page/index.html in a browser' in done.out
    # A photo whose middle square is as large as the network's images, so nothing is scaled.
    photo = np.random.RandomState(0).randint(0, 256, [32, 48, 3]).astype(np.uint8)
    imlib.write(str(workspace / 'photo.png'), photo)
    told = np.zeros([1, 13])
    with Editor(str(workspace / 'output' / 'toy'), device='cpu') as editor:
        told[0, editor.config.atts.index('Male')] = -2 * .5
        image = imlib.to_float(photo[:, 8:40])
        wanted = [imlib.to_uint8(editor.edit(image, values)[0]) for values in (0 * told, told)]
    pixels = ("Array.from(edited.getContext('2d').getImageData(0, 0, 32, 32).data)"
              ".filter((_, place) => place % 4 < 3)")
    settled = 'while (running) await new Promise(done => setTimeout(done, 5));'
    with contextlib.closing(Browser(str(workspace / 'profile'), NO_NETWORK)) as chromium:
        page = chromium.open((workspace / 'page' / 'index.html').as_uri())
        page.wait('document.readyState === "complete" && typeof ready === "object"')
        page.run('ready')
        page.choose_file('#photo', workspace / 'photo.png')
        page.wait("byId('state').textContent.endsWith('ms')")
        before = page.run(pixels)
        after = page.run("(async () => { const slider = byId('Male'); slider.value = -2; "
                         f"slider.oninput(); {settled} return {pixels}; }})()")
        milliseconds = [page.run('(async () => { const began = performance.now(); update(); '
                                 f'{settled} return performance.now() - began; }})()')
                        for _ in range(5)]
        page.run("byId('reset').click()")
        reset = page.run(f'(async () => {{ {settled} return {pixels}; }})()')
        requested = [url for url in page.requests() if not url.startswith('data:')]
        # But of how this test reads pixels.
        complaints = [text for text in page.complaints() if 'willReadFrequently' not in str(text)]
    for found, each in ((before, wanted[0]), (after, wanted[1]), (reset, wanted[0])):
        assert np.abs(np.reshape(found, [32, 32, 3]) - each.astype(int)).max() <= 1
    assert np.abs(np.subtract(before, after)).max() > 1
    assert not complaints and min(milliseconds) < 1000    # 60 for a larger model on quiet cores
    assert requested and all(url.startswith(('file://', 'blob:')) for url in requested), requested


def test_bad_input(run, workspace, monkeypatch):
    experiment = workspace / 'output' / 'toy'
    (workspace / 'full').mkdir()
    (workspace / 'full' / 'x').write_text('')
    before = sorted(workspace.rglob('*'))
    for arguments, message in (
            (['web'], f'{os.path.join("node_modules", "onnxruntime-web")} lacks ort.wasm.min.js'),
            (['web', '--runtime', 'full'], 'full lacks ort.wasm.min.js and '),
            (['web', '--output', 'full'], 'full: is there already'),
            (['savedmodel', '--output', 'full'], 'full: is there already'),
            (['onnx', '--output', 'full'], '--output full: is a folder'),
            (['onnx', '--output', 'full/x/y.onnx'], 'full/x is a file; name another folder with '
             '--output'),
            (['onnx', '--runtime', 'full'], '--runtime: has no effect with --format onnx'),
            (['onnx', '--batch_size', 1], '--batch_size: has no effect with --format onnx'),
            (['pb', '--inputs', 'labels'], '--inputs: has no effect with --format pb')):
        done = run(*EXPORT, *arguments)
        assert done.status == 2 and message in done.err and done.err.count('\n') == 1, done.err
    monkeypatch.setitem(sys.modules, 'tf2onnx', None)
    monkeypatch.setitem(sys.modules, 'onnx', None)
    done = run(*EXPORT, 'onnx')
    assert done.status == 2 and "pip install -e '.[export]'" in done.err, done.err
    set_label(workspace, 'target')
    done = run(*EXPORT, 'onnx', '--inputs', 'difference')
    assert done.status == 2 and 'take --inputs labels' in done.err, done.err
    assert sorted(workspace.rglob('*')) == before
    assert load_config(str(experiment))[0].label == 'target'


def test_an_export_that_differs_is_not_kept(run, workspace, monkeypatch):
    monkeypatch.setitem(export.LIMITS, 'savedmodel', 1e-12)
    done = run(*EXPORT, 'savedmodel')
    assert done.status == 1 and 'more than 1e-12, so it was not kept' in done.err, done.err
    assert not list(workspace.rglob('*savedmodel*'))
    for error in (2e-5, float('nan')):
        with pytest.raises(RunFailed):
            export.check('onnx', [0., error])
    assert export.check('onnx', [1e-6, 0.]) == 1e-6
