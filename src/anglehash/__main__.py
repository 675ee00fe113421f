"""``python -m anglehash``: the command line."""

from anglehash.cli.main import main

if __name__ == "__main__":
    main()
