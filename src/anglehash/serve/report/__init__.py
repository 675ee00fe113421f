"""Reports: HTML files that need nothing else, neither network nor script.

:mod:`~anglehash.serve.report.evaluation` shows one model, :mod:`~anglehash.serve.report.benchmark` many
methods side by side. Both are made of the same parts: ``parts`` (frame, tables), ``figures``
(charts), ``tiles`` (images), and ``values``, which is what keeps a hand-written result from breaking a page.
"""

from anglehash.serve.report.evaluation import render, write_report

__all__ = ["render", "write_report"]
