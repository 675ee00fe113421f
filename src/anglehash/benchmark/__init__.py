"""The honest bench: methods x code lengths x seeds on the same features, splits and metrics.

``run.py`` reads what is asked for, a TOML file, and names every cell by a hash of all it depends on;
``bed.py`` holds what the cells of one split share; ``cell.py`` computes one, whose codes
``codes.py`` keeps beside it; ``store.py`` keeps them;
``runner.py`` runs what is missing, in several processes, and puts the result together.
"""
