"""The command ``select``: what to label next, or what to train on.

`clip_al.cli.main` puts it among its commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from clip_al.arrays.checks import check_choice, check_number
from clip_al.cli.expected import expect, expected_record, print_expected
from clip_al.cli.head import TrainedHead, train_head
from clip_al.cli.labels import (
    FOR_LABELS,
    TRAIN,
    Adapter,
    CrossFit,
    Labels,
    Preset,
    fit_selection,
    make_selector,
    noise_record,
    print_noise,
)
from clip_al.cli.options import (
    BatchSize,
    Device,
    Force,
    Json,
    Model,
    MultiLabel,
    Pretrained,
    SkipUnreadable,
    check_output,
    encode_profiles,
    make_encoder,
    open_or_embed,
    out,
    print_json,
    refuse_options,
    say,
)
from clip_al.cli.per_parent import pick_per_parent
from clip_al.cli.picks import Query, head_query, print_picks, read_query
from clip_al.cli.suspects import suspect_records, suspect_table
from clip_al.errors import InvalidInputError
from clip_al.subset.quotas import RULES

if TYPE_CHECKING:
    from clip_al.subset.selection import Selection
    from clip_al.table.embedding_table import EmbeddingTable

STRATEGIES = ("coverage", "cbd")
TARGETS = ("uniform", "pool", "uncertain")
LABEL = "With --budget: what to label next"
SELECT_EXAMPLES = """
What to label, a first batch and the next one:
  clip-al select photos.table --budget 12 -o first.csv
  clip-al select photos.table --budget 12 -o next.csv --labelled first.csv \\
      --probabilities predictions.npy

By the names of the classes: a first batch with as many of each, and, with labels,
what a head that is trained on them is unsure of:
  clip-al select photos.table --budget 12 -o first.csv --classes classes.txt
  clip-al select photos.table --budget 12 -o next.csv --classes classes.txt \\
      --labelled labelled.csv --vocabulary general

Where an image may have several labels, as `cat;dog`, or none:
  clip-al select photos.table --budget 12 -o next.csv --classes classes.txt \\
      --labelled lists.csv --multi-label

What to train on, as the whole selection or as a list:
  clip-al select photos.table --ratio 0.3 --labels labels.csv -o subset.json
  clip-al select photos --ratio 0.3 --labels folders -o subset.csv --json
"""
# Options that belong to one way of selecting: parameter, and how it is typed.
FOR_BUDGET = {
    "probabilities": "--probabilities",
    "labelled": "--labelled",
    "strategy": "--strategy",
    "vocabulary": "--vocabulary",
    "m": "-m",
    "candidate_factor": "--candidate-factor",
    "target": "--target",
    "one_of_copies": "--one-of-copies",
    "per_parent": "--per-parent",
    "worth": "--worth",
    "target_accuracy": "--target-accuracy",
}
FOR_HEAD = {"worth": "--worth", "target_accuracy": "--target-accuracy"}
FOR_CBD = {"candidate_factor": "--candidate-factor", "target": "--target"}
FOR_EITHER = ("classes", "random_state")
FOR_RATIO = {
    **{name: typed for name, typed in FOR_LABELS.items() if name not in FOR_EITHER},
    "groups": "--groups",
    "alpha": "--alpha",
    "n_neighbors": "--n-neighbors",
    "class_balance": "--class-balance",
    "group_balance": "--group-balance",
    "all_images": "--all",
}


def select(
    ctx: typer.Context,
    images_or_table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE|IMAGES", help="A table, or a folder of images to encode on the way."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="CSV file of the images; with --ratio also .json, the whole selection.",
        ),
    ],
    budget: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="How many images to pick.", rich_help_panel=LABEL),
    ] = None,
    probabilities: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Class probabilities of a model of your own, .npy, CSV or Parquet: a column for "
            "each class, a row for each image. Without one, pass --classes.",
            rich_help_panel=LABEL,
        ),
    ] = None,
    labelled: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Images that have labels: not picked again, and counted as seen; with --classes, "
            "a head is trained on them. Rows of a CSV with an empty `label` stay in the pool.",
            rich_help_panel=LABEL,
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            help="coverage: unsure images that stand for many others, the default; or cbd: unsure "
            "images whose concepts differ.",
            rich_help_panel=LABEL,
            autocompletion=lambda: list(STRATEGIES),
        ),
    ] = "coverage",
    vocabulary: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Write what each pick shows: general, a text file (one concept per line, synonyms "
            "after commas), or a folder with Visual Genome's lists; general with cbd.",
            rich_help_panel=LABEL,
            autocompletion=lambda: ["general"],
        ),
    ] = None,
    m: Annotated[int, typer.Option("-m", help="Concepts per image.", rich_help_panel=LABEL)] = 10,
    candidate_factor: Annotated[
        int,
        typer.Option(
            help="With cbd: uncertain candidates looked at for each pick.", rich_help_panel=LABEL
        ),
    ] = 2,
    target: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="With cbd: the concepts of the picks, uniform (as even as possible), pool (like "
            "all images') or uncertain (like those of the images that the model is unsure of).",
            rich_help_panel=LABEL,
            autocompletion=lambda: list(TARGETS),
        ),
    ] = None,
    one_of_copies: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            metavar="THRESHOLD",
            help="Of near-copies pick one, and none of an image with a label: from this cosine on, "
            "as in `clip-al duplicates`.",
            rich_help_panel=LABEL,
        ),
    ] = None,
    per_parent: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            help="Of a video's frames or a photo's crops pick at most so many, those with labels "
            "counted.",
            rich_help_panel=LABEL,
        ),
    ] = None,
    worth: Annotated[
        float,
        typer.Option(
            help="With --classes: what the picks must promise to be worth labelling, as a share of "
            "all labels; 0.01 is one point. Below it, stop.",
            rich_help_panel=LABEL,
        ),
    ] = 0.01,
    target_accuracy: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            help="With --classes: stop where at least this share of all labels is right, by the "
            "lower limit of its 95 % interval; such as 0.95.",
            rich_help_panel=LABEL,
        ),
    ] = None,
    ratio: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Share of the images to choose, in (0, 1].", rich_help_panel=TRAIN),
    ] = None,
    labels: Labels = None,
    classes: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Names of the classes, one a line, class 0 first. With --budget, each class that "
            "CLIP sees gets as many picks, and once --labelled has labels a head says which "
            "images are unsure; with --ratio, needed where labels are numbers."
        ),
    ] = None,
    groups: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="An attribute with quotas of its own: as --labels, with a column `group`.",
            rich_help_panel=TRAIN,
        ),
    ] = None,
    preset: Preset = "default",
    adapter: Adapter = None,
    cross_fit: CrossFit = False,
    alpha: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Weight of diversity (SDS): a number, or ratio, the default; 0 is for short "
            "trainings.",
            rich_help_panel=TRAIN,
        ),
    ] = None,
    n_neighbors: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Measure SDS among so many of the class: 10, or 0.1 for a tenth; left out, only "
            "where it has a weight.",
            rich_help_panel=TRAIN,
        ),
    ] = None,
    class_balance: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Quotas per class: none, proportional or equal.",
            rich_help_panel=TRAIN,
            autocompletion=lambda: ["none", "proportional", "equal"],
        ),
    ] = None,
    group_balance: Annotated[
        str,
        typer.Option(
            help="Quotas per group of --groups: none, proportional or equal.",
            rich_help_panel=TRAIN,
            autocompletion=lambda: ["none", "proportional", "equal"],
        ),
    ] = "proportional",
    all_images: Annotated[
        bool,
        typer.Option("--all", help="Write the images left out too.", rich_help_panel=TRAIN),
    ] = False,
    multi_label: MultiLabel = False,
    random_state: Annotated[int, typer.Option(min=0, help="Seed.")] = 0,
    model: Model = None,
    pretrained: Pretrained = None,
    device: Device = None,
    batch_size: BatchSize = 256,
    skip_unreadable: SkipUnreadable = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Pick what to label next (--budget), or choose what to train on (--ratio and --labels).

    With --budget alone the picks stand for as much of the pool as possible (a first
    batch); with --classes, each class that CLIP sees gets as many. With labels in
    --labelled and --classes they are the images that a head, trained on these labels
    and class names, is unsure of and that stand for many others like them; with
    --probabilities, a model of your own takes its place. The file has the columns
    rank, index, id and path; margin with a model; concepts and added_concepts with
    --vocabulary or --strategy cbd. From 20 labels on, the head's expected accuracy is
    shown, what labelling the picks promises, and whether to go on or stop.
    With --multi-label an image may have several labels: doubt is that of its labels in
    the mean, and the accuracy is left out.

    With --ratio the images are those whose labels look right and, by --alpha, that
    differ from others of their class; the labels may hold mistakes.
    """
    if (budget is None) == (ratio is None):
        raise InvalidInputError(
            "One of `--budget` (images to label) and `--ratio` (share of the images to train "
            f"on) must be given; got {'neither' if budget is None else 'both'}. Pass one."
        )
    check_output(output, force)
    encoder = make_encoder(model or "mini", pretrained, device, batch_size, None)
    if budget is not None:
        refuse_options(ctx, FOR_RATIO, "`--ratio`", "`--budget`")
        _check_strategy(ctx, strategy, vocabulary, probabilities, classes, target)
        _check_goal(ctx, classes, worth, target_accuracy)
        table = open_or_embed(images_or_table, output, encoder, skip_unreadable)
        head: TrainedHead | None = None
        said: dict[str, Any] = {}
        if classes is None:
            known, predicted = read_query(table, probabilities, labelled, multi_label)
            query = Query(table, budget, known, predicted, multi_label=multi_label)
        else:
            head = train_head(
                table, classes, labelled, model, pretrained, random_state, multi_label
            )
            query = head_query(head, table, budget, strategy)
            said = {"labels": head.n_labels, "classes": len(head.names)}
        rest = query.pool  # near-copies get a label, too
        if one_of_copies is not None:
            query = query.with_one_of_copies(one_of_copies)
        if strategy == "cbd":
            settings: dict[str, Any] = {} if target is None else {"target": target}
            if query.prob_nk is not None:
                settings["candidate_factor"] = candidate_factor
            profiles = encode_profiles(table, vocabulary or "general", m, model, pretrained)
            picks = pick_per_parent(
                query, lambda part: part.pick_by_concepts(profiles, settings), per_parent
            )
        else:
            picks = pick_per_parent(
                query, lambda part: part.pick_by_coverage(head, random_state), per_parent
            )
            profiles = None
            if vocabulary is not None:
                profiles = encode_profiles(table, vocabulary, m, model, pretrained)
        result = query.write(picks, profiles, output, force)
        found = expect(
            head, table, rest, random_state,
            picks=picks, worth=worth, target_accuracy=target_accuracy,
        )  # fmt: skip
        said |= {**result, **expected_record(found), "output": output}
        print_picks({"strategy": strategy, **said}, as_json)
        print_expected(found, as_json)
        return
    refuse_options(ctx, FOR_BUDGET, "`--budget`", "`--ratio`")
    _check_subset(ratio, labels, output, all_images, force)
    if multi_label:
        raise InvalidInputError(
            "`--multi-label` must not come with `--ratio`: alignment, label noise and quotas go by "
            "the one class of an image, and an image of two would count in both. Find wrong "
            "labels by `clip-al suspects --multi-label`; for a subset, give each image one label, "
            "such as its rarest, in the column `label`."
        )
    selector = make_selector(
        preset, adapter, cross_fit, random_state,
        ratio=ratio, alpha=_alpha(alpha), n_neighbors=_neighbors(n_neighbors),
        **_balances(class_balance, group_balance), device=device,
    )  # fmt: skip
    table = open_or_embed(images_or_table, output, encoder, skip_unreadable)
    selection = fit_selection(selector, table, str(labels), classes, groups, model, pretrained)
    _write(output, selection, table, all_images, force)
    if as_json:
        print_json({**_summary(selection), "output": output})
        return
    say(f"Wrote {output}")
    say(str(selection.report()))
    print_noise(selection, warned=True)
    first = selection.suspects(min(3, len(table)))
    doubted = [suspect for suspect in first if suspect.given != suspect.likeliest]
    if doubted:
        out.print(suspect_table(doubted))


def _check_strategy(
    ctx: typer.Context,
    strategy: str,
    vocabulary: str | None,
    probabilities: Path | None,
    classes: Path | None,
    target: str | None,
) -> None:
    """Raise where options do not go with the strategy, or not with each other."""
    check_choice(strategy, STRATEGIES, "--strategy")
    if probabilities is not None:
        owner, given = "labels to train a head on", "`--probabilities`, a model of your own"
        refuse_options(ctx, {"classes": "--classes"}, owner, given)
    if strategy == "cbd":
        seed, owner = {"random_state": "--random-state"}, "`--strategy coverage` or `--classes`"
        if classes is None:
            refuse_options(ctx, seed, owner, "neither")
        if target is not None:
            check_choice(target, TARGETS, "--target")
        return
    refuse_options(ctx, FOR_CBD, "`--strategy cbd`", "`--strategy coverage`")
    if vocabulary is None:
        refuse_options(ctx, {"m": "-m"}, "`--vocabulary` or `--strategy cbd`", "neither")


def _check_goal(
    ctx: typer.Context, classes: Path | None, worth: float, target_accuracy: float | None
) -> None:
    """Raise where what labels must be worth is out of range, or nothing will look at it."""
    if classes is None:
        refuse_options(ctx, FOR_HEAD, "`--classes`", "none")
    check_number(worth, "--worth", low=0.0, below=1.0)
    if target_accuracy is not None:
        check_number(target_accuracy, "--target-accuracy", above=0.0, high=1.0)


def _summary(selection: Selection) -> dict[str, Any]:
    """Return what there is to say of a subset; its file has the images."""
    report = selection.report()
    shares = {
        name: None if table is None else table.astype(object).to_dict("records")
        for name, table in (("classes", report.classes), ("groups", report.groups))
    }
    return {
        "images": selection.n_images,
        "selected": len(selection),
        "ratio": selection.ratio,
        "fingerprint": selection.fingerprint,
        **noise_record(selection),
        **shares,
        "suspects": suspect_records(selection.suspects(min(3, selection.n_images))),
        "settings": selection.settings,
    }


def _check_subset(
    ratio: float | None,
    labels: str | None,
    output: Path,
    all_images: bool,
    force: bool,
) -> None:
    """Raise now what would otherwise come to light after the images are encoded."""
    if ratio is None or not 0 < ratio <= 1:
        raise InvalidInputError(
            f"`--ratio` must be in (0, 1], a share of the images; got {ratio}. Pass 0.3 for 30 %."
        )
    if labels is None:
        raise InvalidInputError(
            "`--labels` must come with `--ratio`: what to train on is chosen by image and label; "
            "got none. Pass a file, or `folders`."
        )
    if output.suffix not in (".json", ".csv"):
        raise InvalidInputError(
            "With `--ratio`, `--output` must end in .json (the whole selection) or .csv (the "
            f"chosen images); got {output}. Rename it."
        )
    if output.suffix == ".json":
        check_output(output.with_suffix(".npz"), force)
        if all_images:
            raise InvalidInputError(
                f"`--all` must come with an output in .csv; got {output}, which always holds all "
                "images. Leave it out."
            )


def _alpha(text: str | None) -> float | str | None:
    """Return the weight of SDS as it was typed."""
    if text is None or text == "ratio":
        return text
    try:
        return float(text)
    except ValueError as exc:
        raise InvalidInputError(
            f"`--alpha` must be a number or ratio, the share that is chosen; got {text!r}. Pass "
            "0 to leave SDS out."
        ) from exc


def _neighbors(text: str | None) -> float | None:
    """Return a count or a fraction, as it was typed: 1 is one neighbour, 1.0 all of the class."""
    if text is None:
        return None
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    raise InvalidInputError(
        f"`--n-neighbors` must be a whole number or a fraction; got {text!r}. Pass 10, or 0.1 for "
        "10 %."
    )


def _balances(class_balance: str | None, group_balance: str) -> dict[str, str | None]:
    """Return the rules for quotas, checked; no rule per class leaves it to the preset."""
    if class_balance is not None:
        check_choice(class_balance, RULES, "--class-balance")
    check_choice(group_balance, RULES, "--group-balance")
    return {"class_balance": class_balance, "group_balance": group_balance}


def _write(
    output: Path, selection: Selection, table: EmbeddingTable, all_images: bool, force: bool
) -> None:
    from clip_al.handed_in.write import write_subset

    if output.suffix == ".json":
        selection.save(output, overwrite=force)
        return
    write_subset(output, selection, paths=table.paths, all_images=all_images, overwrite=force)
