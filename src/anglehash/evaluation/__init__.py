"""From codes and labels to numbers: pure functions on arrays, no torch.

::

    evaluate.py         evaluate(): the outputs of a hasher -> a result
    result.py           Result: every number, with its definition
    metrics.py          mAP, precision and recall, exact under ties
    multi_label.py      ACG, NDCG and WAP, where images have several labels
    likeness.py         what an order inside a class is worth
    likeness_table.py   all of that for the codes of a split, and for the references
    scores.py           rankings by features and by posteriors
    code_statistics.py  the codes themselves, before any ranking
    ranking.py          rank tables straight from packed codes
    kernels.py          its compiled loops
    ties.py             the expectation over tie orders, under all of them
"""
