from __future__ import annotations

import io

import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from clip_al.mini import demo

N_ROUNDS = 2


@pytest.fixture(scope="module")
def printed_and_result(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, demo.DemoResult]:
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "N_ROUNDS", N_ROUNDS)
        folder = tmp_path_factory.mktemp("demo") / "made" / "for it"
        result = demo.run_demo(folder, n_seeds=2, console=Console(file=stream, width=100))
    return stream.getvalue(), result


def test_accuracies_of_each_strategy_round_and_seed(
    printed_and_result: tuple[str, demo.DemoResult],
) -> None:
    printed, result = printed_and_result
    accuracy = result.accuracy
    assert len(accuracy) == len(demo.STRATEGIES) * 2 * N_ROUNDS
    # All three begin with the same labels; ten classes, so chance is 0.1.
    assert accuracy["accuracy"].between(0.5, 1.0).all()
    assert sorted(accuracy["n_labels"].unique()) == [40, 60]
    mean = accuracy[(accuracy.strategy == "margin") & (accuracy.n_labels == 60)]["accuracy"].mean()
    assert f"{mean * 100:.1f} ± " in printed


def test_files(printed_and_result: tuple[str, demo.DemoResult]) -> None:
    printed, result = printed_and_result
    picks = pd.read_csv(result.folder / "selection.csv", keep_default_na=False)
    assert picks["rank"].tolist() == list(range(1, demo.N_INSTANCES + 1))
    assert picks["index"].nunique() == demo.N_INSTANCES
    assert picks["concepts"].str.count("; ").eq(9).all()
    assert result.folder.name in printed
    for name in ("learning_curves.png", "chosen_images.png"):
        with Image.open(result.folder / name) as picture:
            assert len(set(picture.convert("L").resize((64, 64)).getdata())) > 10


def test_the_demo_repeats_itself() -> None:
    import numpy as np
    from sklearn.datasets import load_digits

    from clip_al.concepts import ConceptProfiles
    from clip_al.vocabulary import ConceptVocabulary

    digits = load_digits()
    Z = digits.data / np.linalg.norm(digits.data, axis=1, keepdims=True)
    words = ConceptVocabulary.from_names([f"pixel {i}" for i in range(64)])
    profiles = ConceptProfiles.from_embeddings(Z, words.with_embeddings(np.eye(64)))
    for name in demo.STRATEGIES:
        first, second = (demo._loop(Z, digits.target, profiles, name, 3) for _ in range(2))
        assert first == second
