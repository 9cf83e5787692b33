"""Measurements: speed beside peers, and both papers' experiments with every baseline.

In the order the data flows, for what `python -m benchmarks.run` runs:

* images: cifar, pool_sources, pools, label_flips, corruptions, subsets (what is wrong with a
  pool, who chooses from it), diverse_sets and diverse_features (sets of known diversity);
* vocabularies, labelling (who picks what to label, from which pool);
* networks, training, training_record (what a proxy's training leaves behind);
* baselines/: one module for each method of others, `to_label` and `to_train` name them;
* cells (what is run once and kept), paired (tests), pages (tables and plots);
* experiments/: one module for each page of docs/results, the larger ones with a `…_page`
  beside this file; conclusions (the page that sums up); run (the command).

On their own stand the speed of a query, of a selection, of samplers, of the top m, of encoding
(query_speed, selection_speed, sampler_speed, top_m, encode_speed), growth with the pool (scale),
what picking in shards loses (ray_loss), fine_tune (a selection through plain
torch and through modAL), and train_mini with mini/ (how the mini model was made).
"""
