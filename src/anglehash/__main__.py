"""``python -m anglehash``: the command line."""

from anglehash.serve.cli import main

if __name__ == "__main__":
    main()
