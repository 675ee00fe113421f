"""Galleries past one machine: codes and items kept by an engine that is there already, such as Milvus or PostgreSQL.

::

    remote/
    ├── gallery.py    a remote gallery; it offers what a local one does
    ├── snapshot.py   what the engine holds now: rows, and the nearest of them
    ├── writer.py     adding, replacing and removing
    ├── transfer.py   push and pull: resumable, verified, nothing half-visible
    ├── rows.py       an item as a row that any engine can hold
    ├── pushdown.py   what of a filter an engine can look for, and what is looked for here
    ├── search.py     one query to a backend
    ├── models.py     the model's files travel with the codes
    ├── backend.py    what an engine has to offer, and the catalogue's entry
    └── backends/     one file a database

What is promised: answers are exact and in (distance, order of adding) order, as those of a local gallery, unless
an approximate index is asked for by name. Every row has a crc that is compared before it is served. A
catalogue entry, written last, says which collection of rows a gallery is: until then no search sees them.
"""
