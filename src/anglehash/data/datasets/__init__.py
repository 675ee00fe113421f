"""Known data sets, a file each: ``load(root, *, download=False)`` finds the files and reads them.

Files that start with ``_`` are what the sets share.
"""
