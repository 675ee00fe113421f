"""From codes and labels to numbers: pure functions on arrays, no torch.

::

    protocol.py   evaluate(): the outputs of a hasher -> a report
    report.py     Report: every number of a result, with its definition
    metrics.py    mAP, precision and recall, exact under ties
    graded.py     ACG, NDCG and WAP, where images have several labels
    likeness.py   what an order inside a class is worth
    likeness_table.py  all of that for the codes of a split, and for the references
    scores.py     rankings by features and by posteriors
    baselines.py     what a user would pick without training: float, bits, PQ, RaBitQ
    codebook.py   the codes themselves, before any ranking
    ranking.py    rank tables straight from packed codes
    kernels.py    its compiled loops
    ties.py       the expectation over tie orders, under all of them
"""
