"""`python -m stgan COMMAND ...`, see stgan.commands."""

from stgan.commands import main

if __name__ == '__main__':
    main()
