"""A plugin of FiftyOne: select the next batch, and find suspects, from the App.

FiftyOne finds it where this folder is linked into its folder of plugins; it reads `fiftyone.yml`
and calls `register`. What the operators do is in `steps`.
"""

from __future__ import annotations

from typing import Any

from clip_al.errors import missing_extra

try:
    import fiftyone.operators as foo
    from fiftyone.operators import types
except ImportError as exc:
    raise missing_extra("clip_al.fiftyone_plugin needs fiftyone", "fiftyone") from exc


class SelectNextBatch(foo.Operator):
    """Tag and rank what to label next, and show it."""

    @property
    def config(self) -> Any:
        """Name and label in the App."""
        return foo.OperatorConfig(
            name="select_next_batch", label="clip_al: select the next batch to label"
        )

    def resolve_input(self, ctx: Any) -> Any:  # noqa: ARG002  FiftyOne passes it
        """Ask for the table, how many images, and the classes."""
        inputs = _form()
        inputs.int("budget", default=20, min=1, label="Images to pick")
        return types.Property(inputs, view=types.View(label="Select the next batch to label"))

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Pick, tag, and show the picks."""
        from clip_al.fiftyone_plugin.steps import select_next_batch

        view, said = select_next_batch(
            ctx.dataset,
            ctx.params["table"],
            int(ctx.params.get("budget") or 20),
            classes=_classes(ctx),
            label_field=ctx.params.get("label_field") or "ground_truth",
        )
        ctx.ops.set_view(view=view)
        return {"said": said}

    def resolve_output(self, ctx: Any) -> Any:  # noqa: ARG002
        """Show what was done in a sentence."""
        return _sentence()


class FindSuspects(foo.Operator):
    """Tag the samples whose labels are likeliest wrong, and show them."""

    @property
    def config(self) -> Any:
        """Name and label in the App."""
        return foo.OperatorConfig(
            name="find_suspects", label="clip_al: find labels that look wrong"
        )

    def resolve_input(self, ctx: Any) -> Any:  # noqa: ARG002
        """Ask for the table, how many suspects, and the classes."""
        inputs = _form()
        inputs.int("n", default=20, min=1, label="How many suspects")
        return types.Property(inputs, view=types.View(label="Find labels that look wrong"))

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Score the labels, tag the worst, and show them."""
        from clip_al.fiftyone_plugin.steps import find_suspects

        view, said = find_suspects(
            ctx.dataset,
            ctx.params["table"],
            int(ctx.params.get("n") or 20),
            classes=_classes(ctx),
            label_field=ctx.params.get("label_field") or "ground_truth",
        )
        ctx.ops.set_view(view=view)
        return {"said": said}

    def resolve_output(self, ctx: Any) -> Any:  # noqa: ARG002
        """Show what was done in a sentence."""
        return _sentence()


def _form() -> Any:
    inputs = types.Object()
    inputs.str("table", required=True, label="Table", description="That `clip-al embed` wrote.")
    inputs.str("label_field", default="ground_truth", label="Field with the labels")
    inputs.str(
        "classes",
        label="Classes",
        description="Names, with commas between them; left out, those of the field.",
    )
    return inputs


def _classes(ctx: Any) -> list[str] | None:
    given = [name.strip() for name in (ctx.params.get("classes") or "").split(",") if name.strip()]
    return given or None


def _sentence() -> Any:
    outputs = types.Object()
    outputs.str("said", label="Done")
    return types.Property(outputs)


def register(plugin: Any) -> None:
    """Add the operators; FiftyOne calls it."""
    plugin.register(SelectNextBatch)
    plugin.register(FindSuspects)
