"""Tests of what an install without any extra can do, and what it says where one is missing.

Modules and messages are looked at in a fresh interpreter that finds no package of an extra.
The main paths run where none is installed: `.ci/run` makes such environments, one with the
newest versions of the core packages and one with the lowest.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from sklearn.base import clone

import clip_al

ROOT = Path(__file__).parents[1]
# What the extras bring, of what can be imported. Core packages bring Jinja2 too, so that
# it is there without its extra; it is hidden all the same.
HIDDEN = (
    "accelerate", "apricot", "av", "cleanlab", "datasets", "faiss", "fiftyone", "gcsfs", "jinja2",
    "lightning", "matplotlib", "modAL", "pillow_heif", "plotly", "pyarrow", "ray", "s3fs",
    "skactiveml", "skorch", "submodlib", "torchdata", "transformers", "webdataset",
)  # fmt: skip
HIDE = f"""
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] not in {HIDDEN}:
            return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""


def run_bare(code, *arguments, folder=None, status=0):
    """Run code where no package of an extra is found; return its output, or what it complains."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", HIDE + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=250, check=False, cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


def test_what_is_hidden_is_not_found_and_the_rest_is():
    code = f"""
    import importlib.util
    print(*[n for n in ("numpy", *{HIDDEN}) if importlib.util.find_spec(n)])
    """
    assert run_bare(code).split() == ["numpy"]


# Modules

IMPORT_ALL = """
import json, pkgutil, clip_al, clip_al.errors
from importlib import import_module

refused = {}
names = [m.name for m in pkgutil.walk_packages(clip_al.__path__, "clip_al.")]
for name in names:
    try:
        import_module(name)
    except clip_al.errors.MissingDependencyError as exc:
        refused[name] = str(exc)
print(json.dumps({"imported": len(names) - len(refused), "refused": refused}))
"""


def test_every_module_is_imported_but_for_three_whose_classes_are_the_hosts():
    found = json.loads(run_bare(IMPORT_ALL))
    assert found["imported"] > 80
    assert found["refused"] == {
        f"clip_al.{host}": f"clip_al.{host} needs {package}, which is not installed. Run "
        f'`pip install "clip_al[{extra}]"`.'
        for host, package, extra in (
            ("fiftyone_plugin", "fiftyone", "fiftyone"),
            ("integrations.lightning", "Lightning and torchdata", "lightning"),
            ("integrations.scikit_activeml", "scikit-activeml", "activeml"),
        )
    }


# The main paths

bare = pytest.mark.skipif(
    any(importlib.util.find_spec(name) for name in HIDDEN if name != "jinja2"),
    reason="needs an environment without extras, such as .ci/run makes",
)


@pytest.fixture(scope="module")
def digits():
    """Embeddings and labels of 120 digits, five concepts, the classes' texts, a classifier."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    data = load_digits()
    encoder = clip_al.ClipEncoder("mini")
    Z = encoder.encode_images((data.images[:120] * 255 / 16).astype("uint8"))
    y = data.target[:120]
    words = clip_al.ConceptVocabulary.from_names(["round", "straight", "open", "dark", "thin"])
    return SimpleNamespace(
        Z=Z,
        y=y,
        pool=Z[40:],
        vocabulary=words.encode(encoder),
        T=encoder.encode_texts([f"a photo of the digit {i}" for i in range(10)]),
        model=LogisticRegression(C=30, max_iter=1000).fit(Z[:40], y[:40]),
    )


@bare
@pytest.mark.parametrize(
    "name",
    [
        "UncertaintyCoverageSampling",
        "CBDMarginSampling",
        "CBDSampling",
        "AlignmentDiversitySampling",
    ],
)
def test_a_strategy_picks_for_a_plain_classifier(digits, name):
    probabilities = {"probabilities": digits.model.predict_proba(digits.pool)}
    strategy, known = {
        "UncertaintyCoverageSampling": (clip_al.UncertaintyCoverageSampling(), probabilities),
        "CBDMarginSampling": (clip_al.CBDMarginSampling(digits.vocabulary, m=3), probabilities),
        "CBDSampling": (clip_al.CBDSampling(digits.vocabulary, m=3), {}),
        "AlignmentDiversitySampling": (
            clip_al.AlignmentDiversitySampling(class_embeddings=digits.T),
            {"y": digits.model.predict(digits.pool)},
        ),
    }[name]
    picks, metrics = clone(strategy)(digits.model, digits.pool, n_instances=10)
    assert len(set(picks.tolist())) == len(metrics) == 10
    assert strategy.select(digits.pool, 10, **known).tolist() == picks.tolist()


@bare
def test_the_head_fits(digits):
    head = clip_al.ClipClassifier(
        class_names=[f"digit {i}" for i in range(10)], class_embeddings=digits.T
    )
    assert (
        head.fit(digits.Z, [f"digit {i}" for i in digits.y]).score(
            digits.Z, [f"digit {i}" for i in digits.y]
        )
        > 0.8
    )


@bare
def test_a_learner_of_modals_shape_is_answered(digits):
    class Learner:
        estimator, X_training = digits.model, digits.Z[:40]
        predict_proba = digits.model.predict_proba

    strategy = clip_al.CBDMarginSampling(digits.vocabulary, m=3)
    picks, _ = strategy(Learner(), digits.pool, n_instances=5)
    known = {"probabilities": digits.model.predict_proba(digits.pool), "labelled": digits.Z[:40]}
    assert picks.tolist() == strategy.select(digits.pool, 5, **known).tolist()


@bare
@pytest.mark.parametrize("adapter", [False, True])
def test_from_profiles_to_a_loader(digits, adapter, tmp_path):
    from torch.utils.data import DataLoader

    profiles = clip_al.ConceptProfiles.from_embeddings(digits.Z, digits.vocabulary, 3)
    assert 0 < clip_al.concept_diversity(profiles) <= 1
    asked = clip_al.DatasetAdapter(epochs=1) if adapter else False
    selector = clip_al.ClipSelector(0.5, class_embeddings=digits.T, adapter=asked, random_state=0)
    selection = selector.fit_select(digits.Z, digits.y)
    selection.save(tmp_path / "subset.json")
    loaded = clip_al.Selection.load(tmp_path / "subset.json")
    assert loaded.indices.tolist() == selection.indices.tolist()
    loader = DataLoader(digits.y, batch_size=16, sampler=clip_al.SelectedSubsetSampler(loaded))
    assert sum(len(batch) for batch in loader) == 60


CLI = "from clip_al.cli.main import main; main()"


@bare
def test_the_command_line_embeds_and_selects(tmp_path):
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    for i in range(40):
        file = tmp_path / "photos" / f"digit {data.target[i]}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((data.images[i] * 255 / 16).astype("uint8")).save(file)
    run_bare(CLI, "embed", "photos", "-o", "t.table", folder=tmp_path)
    run_bare(CLI, "select", "t.table", "--budget", 5, "-o", "first.csv", folder=tmp_path)
    assert len((tmp_path / "first.csv").read_text().splitlines()) == 6
    subset = ("--labels", "folders", "--ratio", 0.5, "-o", "subset.csv")
    run_bare(CLI, "select", "t.table", *subset, folder=tmp_path)
    assert len((tmp_path / "subset.csv").read_text().splitlines()) == 21


# What is missing

CALLS = {
    "cpu": (
        "clip_al.neighbors.mean_neighbour_distances(Z, 1, backend='faiss')",
        "The backend 'faiss' needs faiss",
        ", or pass backend='numpy'",
    ),
    "plots": ("clip_al.plots.concept_coverage(profiles)", "A plot needs matplotlib", ""),
    "report": ("selection.report_html('r.html')", "A report needs jinja2", ""),
    "parquet": ("selection.to_parquet('s.parquet')", "Parquet needs pyarrow", ", or use `to_csv`"),
    "cleanlab": (
        "datalab.audit(selector, Z)",
        "clip_al.integrations.datalab needs cleanlab with Datalab",
        "",
    ),
    "huggingface": (
        "hugging_face.images_of([])",
        "clip_al.integrations.hugging_face needs datasets",
        "",
    ),
    "fiftyone": (
        "fiftyone.add_picks([], [0], ['a'])",
        "clip_al.integrations.fiftyone needs fiftyone",
        "",
    ),
    "ray": (
        "ray.embed([])",
        "clip_al.integrations.ray needs Ray Data",
        ", on every node of the cluster",
    ),
    "demo": ("encode_digits(None)", "The demo needs modAL", ""),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each call says, all in one interpreter."""
    code = f"""
    import json
    import numpy as np
    import clip_al
    from clip_al.demo.label import encode_digits
    from clip_al.integrations import datalab, fiftyone, hugging_face, ray

    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(40, 4)), np.arange(40) % 4
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    vocabulary = clip_al.ConceptVocabulary.from_names(list("abcd")).with_embeddings(np.eye(4))
    profiles = clip_al.ConceptProfiles.from_embeddings(Z, vocabulary, 2)
    selector = clip_al.ClipSelector(0.5, class_embeddings=np.eye(4)).fit(Z, y)
    selection = selector.selection_
    said = {{}}
    for extra, (call, *_) in {CALLS!r}.items():
        try:
            eval(call)
        except clip_al.errors.MissingDependencyError as exc:
            said[extra] = str(exc)
    print(json.dumps(said))
    """
    return json.loads(run_bare(code, folder=tmp_path_factory.mktemp("bare")))


@pytest.mark.parametrize("extra", CALLS)
def test_a_missing_extra_is_named_with_the_line_that_installs_it(said, extra):
    _, need, instead = CALLS[extra]
    expected = f'{need}, which is not installed. Run `pip install "clip_al[{extra}]"`{instead}.'
    assert said.get(extra) == expected


def test_the_command_line_says_it_too(tmp_path):
    told = run_bare(CLI, "demo", "-o", "made", folder=tmp_path, status=2)
    assert 'needs modAL, which is not installed. Run `pip install "clip_al[demo]"`.' in told
    assert "Traceback" not in told
