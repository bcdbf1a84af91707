"""STGAN for Python 3.7 (TensorFlow 1.15.5) and 3.9 - 3.13 (TensorFlow 2.15 on)."""

import glob
import os
import re

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = os.path.dirname(os.path.abspath(__file__))
CLASSIC = '; python_version < "3.8"'
CURRENT = '; python_version >= "3.9"'

# The versions that were tried: the lowest on Python 3.7, the newest on 3.11.
EXPORT = ['tf2onnx>=1.16', 'onnx>=1.14', 'onnxruntime>=1.10', 'sympy' + CLASSIC]

# What commands are beside the packages: see stgan/commands.py.
CHECKOUT = ('train.py', 'train_mixed.py', 'test.py', 'psnr_ssim.py', 'scripts/*.py',
            'scripts/toy/*.py', 'scripts/page/*', 'models/*/*.*', 'models/*/checkpoints/*')


class BuildWithCommands(build_py):
    """Puts the commands of a checkout into a wheel, as files below stgan/checkout."""

    def run(self):
        super().run()
        if getattr(self, 'editable_mode', False):
            return
        for path in (path for pattern in CHECKOUT for path in glob.glob(pattern)):
            target = os.path.join(self.build_lib, 'stgan', 'checkout', path)
            self.mkpath(os.path.dirname(target))
            self.copy_file(path, target)


# Read, not imported: nothing need be installed to build this.
with open(os.path.join(HERE, 'stgan', '__init__.py')) as stream:
    VERSION = re.search("__version__ = '(.*)'", stream.read()).group(1)

setup(
    name='stgan',
    version=VERSION,
    description='STGAN face attribute editing: training, editing and evaluation in TensorFlow 1.x',
    license='MIT',
    classifiers=['Operating System :: POSIX :: Linux', 'Operating System :: MacOS',
                 'Topic :: Scientific/Engineering :: Image Processing'],
    packages=['stgan', 'tflib', 'imlib', 'pylib', 'att_classification', 'precision_tool'],
    package_data={'tflib': ['fusion_switch.json'], 'precision_tool': ['*.json'],
                  'stgan': ['web/*']},
    cmdclass={'build_py': BuildWithCommands},
    entry_points={'console_scripts': ['stgan = stgan.commands:main']},
    python_requires='>=3.7,!=3.8.*',
    install_requires=[
        'tensorflow==1.15.5' + CLASSIC,
        'tensorflow>=2.15' + CURRENT,
        # TensorFlow 1.15 was built before these broke its interfaces.
        'protobuf<3.21' + CLASSIC,
        'numpy>=1.16,<1.19' + CLASSIC,
        'importlib-metadata' + CLASSIC,
        'numpy>=1.23' + CURRENT,
        'protobuf>=3.20' + CURRENT,
        'pillow>=9.5',
        'matplotlib>=3.5',
        'rich>=13',
        'scikit-image>=0.19',
        'tqdm>=4.60',
    ],
    extras_require={
        'dev': ['pytest>=7', 'pytest-xdist>=3', 'hypothesis>=6',
                'ruff; python_version >= "3.9"'] + EXPORT,
        'export': EXPORT,
        # Its weights, as files: 1.0.0 on Python 3.10 and later, 0.1.1 before.
        'photos': ['mtcnn>=0.1.1'],
        # What these are on Python 3.7: 0.29 and 0.22, the oldest that will do.
        'page': ['starlette>=0.29', 'uvicorn>=0.22'],
        # Built against the TensorFlow that is there: see `make test-horovod`.
        'distributed': ['horovod>=0.28.1,<0.29'],
        'gpu': ['tensorflow[and-cuda]>=2.15' + CURRENT],
    },
)
