"""What ``select --budget`` asks of a strategy, and how it writes the picks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.checks import check_number
from clip_al.cli.options import note, print_json, say
from clip_al.errors import InvalidInputError
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    from clip_al.cli.head import TrainedHead
    from clip_al.concepts.profiles import ConceptProfiles
    from clip_al.label.concept_sampling import CBDMarginSampling, CBDSampling
    from clip_al.label.coverage_sampling import UncertaintyCoverageSampling
    from clip_al.label.explain import PickExplanation
    from clip_al.table.embedding_table import EmbeddingTable


def check_some_are_left(known: NDArray[np.int64], table: EmbeddingTable) -> None:
    """Raise where every image of the table has a label."""
    if len(known) == len(table):
        raise InvalidInputError(
            f"`--labelled` must leave images to pick; all {len(table):,} of the table have a "
            "label. Nothing is left to label."
        )


def read_query(
    table: EmbeddingTable, probabilities: Path | None, labelled: Path | None, multi_label: bool
) -> tuple[NDArray[np.int64], NDArray[Any] | None]:
    """Return which images have labels, and the predictions of all."""
    from clip_al.handed_in.read import read_labelled, read_probabilities, read_several_labels
    from clip_al.handed_in.several_labels import holds_labels

    known, predicted, names = np.empty(0, dtype=np.int64), None, None
    if probabilities is not None:
        foreseen = read_probabilities(probabilities, table, multi_label=multi_label)
        note(probabilities, foreseen.how)
        predicted, names = foreseen.probabilities, foreseen.class_names
    if labelled is not None:
        read: Any = None
        if multi_label and holds_labels(labelled, names):
            read = read_several_labels(labelled, table, all_images=False)
        else:
            read = read_labelled(labelled, table, "--labelled")
        note(labelled, read.how)
        known = read.indices
        check_some_are_left(known, table)
    return known, predicted


@dataclass(frozen=True)
class Query:
    """What is asked: so many images of a table, beside those with labels.

    Parameters
    ----------
    table : EmbeddingTable
    budget : int
    known : ndarray of shape (l,), int64
        Rows of the images that have labels.
    prob_nk : ndarray of shape (n, k) or None
        Predictions of all images of the table.
    left_out : ndarray of shape (l,), int64
        Further rows that are not picked.
    multi_label : bool
        Whether an image may have several labels, or none.
    """

    table: EmbeddingTable
    budget: int
    known: NDArray[np.int64]
    prob_nk: NDArray[Any] | None
    left_out: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    multi_label: bool = False

    @property
    def pool(self) -> NDArray[np.int64]:
        """Rows of the images without a label that are still in their folder."""
        taken = np.concatenate([self.known, self.table.gone, self.left_out])
        return np.delete(np.arange(len(self.table)), np.unique(taken))

    def with_one_of_copies(self, threshold: float) -> Query:
        """Return the query with one image of each group of near-copies, none of a known one's."""
        from clip_al.find.near_duplicates import near_duplicates

        threshold = check_number(threshold, "--one-of-copies", above=0.0, high=1.0)
        with progress_bar(True, f"Comparing {len(self.table):,} images", None):
            found = near_duplicates(self.table, threshold)
        groups = found.representative
        pool = self.pool
        _, first = np.unique(groups[pool], return_index=True)  # a first image may be gone
        left = pool[np.sort(first)]
        left = left[~np.isin(groups[left], groups[self.known])]
        copies = np.setdiff1d(pool, left)
        how = "" if found.is_exact else f"; {found.how_sure()}"
        note("--one-of-copies", f"{len(copies):,} near-copies left out{how}")
        return replace(self, left_out=np.union1d(self.left_out, copies))

    @property
    def is_whole(self) -> bool:
        """Whether the pool is the table."""
        return not (self.known.size or self.table.gone.size or self.left_out.size)

    def pick_by_coverage(self, head: TrainedHead | None, random_state: int) -> NDArray[np.int64]:
        """Return rows of the table, best first."""
        from clip_al.label.coverage_sampling import UncertaintyCoverageSampling

        strategy = UncertaintyCoverageSampling(
            multi_label=self.multi_label, random_state=random_state
        )
        if head is not None:
            strategy.set_params(class_embeddings=head.class_emb_kd, logit_scale=head.logit_scale)
        if self.is_whole:  # nothing is copied
            return self._ask(strategy, self.table)
        return self._ask(strategy, self.table[self.pool], labelled=self.table[self.known])

    def pick_by_concepts(
        self, profiles: ConceptProfiles, settings: dict[str, Any]
    ) -> NDArray[np.int64]:
        """Return rows of the table, best first."""
        from clip_al.label.concept_sampling import CBDMarginSampling, CBDSampling

        kind = CBDSampling if self.prob_nk is None else CBDMarginSampling
        strategy = kind(**settings)
        if self.prob_nk is not None:
            strategy.set_params(multi_label=self.multi_label)
        if self.is_whole:
            return self._ask(strategy, None, profiles=profiles)
        part, seen = profiles.take(self.pool), profiles.take(self.known)
        return self._ask(strategy, None, profiles=part, labelled=seen)

    def _ask(
        self,
        strategy: UncertaintyCoverageSampling | CBDSampling | CBDMarginSampling,
        X: Any,
        **pool: Any,
    ) -> NDArray[np.int64]:
        if self.prob_nk is not None:
            pool["probabilities"] = self.prob_nk if self.is_whole else self.prob_nk[self.pool]
        with progress_bar(True, f"Picking among {len(self.pool):,} images", None):
            return self.pool[strategy.select(X, self.budget, **pool)]

    def write(
        self, picks: NDArray[np.int64], profiles: ConceptProfiles | None, output: Path, force: bool
    ) -> dict[str, Any]:
        """Write the picks, and return what there is to say of them."""
        from clip_al.handed_in.write import write_picks
        from clip_al.label.explain import PickExplanation, explain_picks
        from clip_al.label.uncertainty import label_uncertainty, margin

        table, margins, said = self.table, None, {}
        if self.prob_nk is not None:
            measure = label_uncertainty if self.multi_label else margin
            margins = measure(np.asarray(self.prob_nk[picks]))
        if profiles is None:
            explanations = [PickExplanation(int(index), (), ()) for index in picks]
        else:
            seen = profiles.take(self.known) if self.known.size else None
            explanations = explain_picks(picks, profiles, labelled=seen)
            said = {
                "concepts": profiles.n_concepts,
                "added_concepts": sum(len(pick.added) for pick in explanations),
            }
        write_picks(
            output, explanations,
            ids=table.ids, paths=table.paths, metric=margins, concepts=profiles is not None,
            overwrite=force,
        )  # fmt: skip
        rows = [self._record(rank, pick, margins, said) for rank, pick in enumerate(explanations)]
        return {"images": len(table), **said, "picks": rows}

    def _record(
        self, rank: int, pick: PickExplanation, margins: NDArray[Any] | None, said: dict[str, Any]
    ) -> dict[str, Any]:
        record = {
            "index": pick.index,
            "id": self.table.ids[pick.index],
            "path": self.table.paths[pick.index],
        }
        if margins is not None:
            record["margin"] = margins[rank]
        if said:
            record |= {"concepts": pick.concepts, "added_concepts": pick.added}
        return record


def head_query(head: TrainedHead, table: EmbeddingTable, budget: int, strategy: str) -> Query:
    """Return the query with what a head predicts; before the first label by concepts alone.

    Without a label, equal shares of the classes that CLIP sees are the better batch.
    """
    check_some_are_left(head.known.rows, table)
    asked = head.n_labels > 0 or strategy == "cbd"
    prob_nk = head.probabilities(table) if asked else None
    return Query(table, budget, head.known.rows, prob_nk, multi_label=head.multi_label)


def print_picks(result: dict[str, Any], as_json: bool) -> None:
    """Print what was written, for people or as JSON."""
    if as_json:
        print_json(result)
        return
    wrote = f"Wrote {len(result['picks']):,} of {result['images']:,} images to {result['output']}"
    if "concepts" in result:
        added = f"{result['added_concepts']:,} of {result['concepts']:,} concepts"
        wrote += f"; they add {added}."
    say(wrote)
