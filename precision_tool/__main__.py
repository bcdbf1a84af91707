"""`python -m precision_tool`, see cli.py."""

from precision_tool.cli import main
from pylib import run_command

run_command(main)
