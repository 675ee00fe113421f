"""Reports: HTML files that need nothing else, neither network nor script.

:mod:`~anglehash.report.evaluation` shows one model, :mod:`~anglehash.benchmark.report.page` many
methods side by side. Both are made of the same parts: ``parts`` (frame, tables), ``figures``
(charts), ``tiles`` (images), and ``values``, which is what keeps a hand-written result from breaking a page.
"""

from anglehash.report.evaluation import render, write_report

__all__ = ["render", "write_report"]
