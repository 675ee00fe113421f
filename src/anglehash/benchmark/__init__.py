"""The honest bench: methods x code lengths x seeds on the same features, splits and metrics.

``run_file.py`` reads what is asked for, a TOML file, and names every cell by a hash of all it depends on;
``split_features.py`` holds what the cells of one split share; ``experiment.py`` computes one, whose codes
``saved_codes.py`` keeps beside it; ``results_store.py`` keeps them;
``runner.py`` runs what is missing, in several processes, and puts the result together.
"""
