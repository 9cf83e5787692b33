"""Measurements: speed beside peers, and both papers' experiments with every baseline.

    python -m benchmarks.run EXPERIMENT|all     a page of docs/results, or all
    python -m benchmarks.speed.query            likewise scale, selection, sampler, encode, start, …
    python -m benchmarks.training.fine_tune     a selection through plain torch and through modAL
    python -m benchmarks.train_mini             how the mini model is made, and its figures

* `harness`: cells (what is run once and kept), environment (machine, time, memory, tables),
  paired (tests), pages (tables and plots).
* `data`: where images and vocabularies come from (cifar, pool_sources, pools, vocabularies), what
  is wrong with a pool (label_flips, corruptions), sets of known diversity (diverse_sets,
  diverse_features).
* `training`: networks, training, what it leaves behind (training_record); who picks what to label,
  from which pool (labelling); who chooses what to train on, and what that is worth (subsets).
* `baselines`: one module for each method of others; `to_label` and `to_train` name them.
* `experiments`: one module for each page of docs/results, the page of a larger one and what it
  alone needs beside it under its name (``cost``, ``cost_page``, ``cost_timing``); subset_pages
  (what pages on subsets share) and conclusions (the page that sums up).
* `speed`: one command for each thing that is timed.
* `train_mini`: the training of the mini model.
"""
