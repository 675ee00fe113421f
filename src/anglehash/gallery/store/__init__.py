"""The store: how a gallery is kept on disk, so that nothing is lost and nothing damaged is believed.

::

    gallery/
    ├── manifest.json    the receipt, written last: which store, generation, count, the sha256 of each segment
    └── 1/               the store; converting or re-encoding builds the next one, and the manifest then names it
        ├── items.db     SQLite, the truth: items with code and crc, and every file that was seen
        ├── codes/       segments: the same codes, packed, to be mapped into memory; derived from items.db
        ├── receipt      the last generation that was acknowledged
        ├── lock         held by the one writer
        └── model/       a copy of the model, where one was given

What is promised:

- What ``commit`` has returned from survives a killed process and a power cut; the rest is absent as a whole.
- A reader sees one whole generation, old or new, and no writer can disturb it.
- A changed byte is found when the gallery is opened or verified, is named, and is never served.
- Segments and manifest can be rebuilt from ``items.db`` (``repair``).

Rows of ``items.db`` are written once. Replacing an item gives it a new row; the old one is only marked with
the generation in which it died, until no segment holds it any more.
"""
