# make demo      the whole job with the model in the box: edit, measure, train on (3 minutes on 2 cores)
# make demo-scratch   the same with a model trained from nothing (6 minutes)
# make test      the tests, on the newest TensorFlow
# make test-tf1  the same tests on Python 3.7 and TensorFlow 1.15.5 (PYTHON37=... names the Python)
# make test-slow the tests that both leave out, on both: benchmarks, series of trainings, further cases of other tests
# make test-gpu  what only a GPU can show, on a machine with one
# make test-horovod   training under Horovod, which it builds first (5 minutes; g++, cmake)
# make bench     speed, beside the published code's way of doing the same (about half an hour; docs/performance.md)
# make lint      ruff
# make clean     remove the virtual environments, the toy data and the demo's results

# Side by side, as far as four cores go; the tests of a file share what they have trained.
PYTEST = -m pytest -n auto --maxprocesses 4 --dist loadfile

export PYTHON37
# The checkout stays as it is: no bytecode in it.
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: demo demo-scratch test test-tf1 test-slow test-gpu test-horovod bench lint clean

demo: .venv/installed
	.venv/bin/python scripts/demo.py

demo-scratch: .venv/installed
	.venv/bin/python scripts/demo.py --scratch

test: .venv/installed
	.venv/bin/python $(PYTEST) -m 'not slow'

test-tf1: .venv-tf1/installed
	.venv-tf1/bin/python $(PYTEST) -m 'not slow'

test-slow: .venv/installed .venv-tf1/installed
	.venv/bin/python $(PYTEST) -m slow
	.venv-tf1/bin/python $(PYTEST) -m slow

test-gpu: .venv/installed
	.venv/bin/python -m pip install -q -e '.[gpu]'
	.venv/bin/python -m pytest -m gpu

test-horovod: .venv-horovod/installed
	.venv-horovod/bin/python -m pytest tests/stgan/test_horovod.py

bench: .venv/installed
	.venv/bin/python scripts/bench/benchmark.py

lint: .venv/installed
	.venv/bin/python -m ruff check .

clean:
	rm -rf .venv .venv-tf1 .venv-horovod stgan.egg-info data/toy data/demo output/demo*

.venv/installed: setup.py scripts/find_python.sh
	python=$${PYTHON:-$$(sh scripts/find_python.sh current)} && "$$python" -m venv .venv
	.venv/bin/python -m pip install -q -e '.[dev,photos,page]'
	touch $@

.venv-tf1/installed: setup.py scripts/find_python.sh
	python=$$(sh scripts/find_python.sh classic) && "$$python" -m venv .venv-tf1
	.venv-tf1/bin/python -m pip install -q -e '.[dev,photos,page]'
	touch $@

# Horovod compiles against the TensorFlow that is there, with old tools.
.venv-horovod/installed: setup.py scripts/find_python.sh
	python=$$(sh scripts/find_python.sh classic) && "$$python" -m venv .venv-horovod
	.venv-horovod/bin/python -m pip install -q pip==24.0 setuptools==68.0.0 wheel==0.42.0
	.venv-horovod/bin/python -m pip install -q -e '.[dev]'
	HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1 \
	    HOROVOD_WITHOUT_MPI=1 .venv-horovod/bin/python -m pip install -q --no-build-isolation \
	    --no-cache-dir -e '.[distributed]'
	touch $@
