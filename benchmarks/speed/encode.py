"""Images a second from JPEG files to embeddings, beside the bare model and decoding alone.

    python -m benchmarks.speed.encode [--model ViT-B-32] [--workers 0 1] [--json FILE]

The files are drawn once, from the seed, in a temporary folder: 500 × 375, smooth shapes under
grain, about as many bytes as a photograph. A name of open_clip gets random weights, which cost
the same time as trained ones; "mini", "hf-hub:" and "local-dir:" are loaded as they are.
Measured in turns, after one round that does not count:

- the bare model, ratio 1: `encode_image` on normalised batches that lie on the device, under
  the encoder's precision, waiting once, at the end;
- the encoder's step: 8-bit pixels in memory to rows in memory: transfer, scaling, model;
- decoding: files to 8-bit pixels of the model's size by so many workers (0: in this process);
- the encoder: `ClipEncoder.encode_images` of the folder with as many workers.

The encoder can be no faster than the slower of model and decoding; that is its limit. On a CPU
both want the same cores, and what decoding takes is missing to the model. `--device-rate` stands
in for a GPU where there is none: in place of the model it waits, at so many images a second, and
leaves the cores to decoding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.harness.environment import (
    Timing,
    print_environment,
    print_table,
    time_in_turns,
    write_json_lines,
)
from clip_al import ClipEncoder
from clip_al.encode.clip_models import LoadedClip
from clip_al.encode.encoder import pixel_loader
from clip_al.images.sources import image_source

SIZE = (500, 375)
BARE = "bare model"
STEP = "encoder's step, pixels in memory"


def write_photos(folder: Path, n: int, seed: int) -> float:
    """Write n JPEG files and return their mean size in kB."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    grain = rng.normal(0, 8, (SIZE[1], SIZE[0], 3))
    for i in range(n):
        shapes = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(shapes.resize(SIZE, Image.Resampling.BICUBIC), dtype=np.float64)
        pixels = np.clip(smooth + np.roll(grain, i, axis=1), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:06}.jpg", quality=90)
    return sum(file.stat().st_size for file in folder.iterdir()) / n / 1000


def write_random_model(folder: Path, name: str, seed: int) -> str:
    """Save a model of open_clip with random weights; return how the encoder loads it."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(seed)
    model = open_clip.create_model(name)
    size = model.visual.preprocess_cfg["size"]
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {"size": size}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def model_functions(encoder: ClipEncoder, photos: Path) -> dict[str, Callable[[], Any]]:
    """Return the bare model and the encoder's step, each over as many images as there are."""
    loaded = encoder._load()
    source = image_source(photos)
    pixels = [batch for batch, _ in pixel_loader(source, loaded, 0, encoder.batch_size, 0)]
    inputs = [_normalised(batch, loaded) for batch in pixels]

    def bare() -> None:
        with torch.inference_mode(), loaded._autocast():
            for x in inputs:
                loaded.model.encode_image(x)
        if loaded.device.type == "cuda":
            torch.cuda.synchronize(loaded.device)

    return {BARE: bare, STEP: lambda: [loaded.encode_pixels(batch) for batch in pixels]}


def _normalised(pixels: torch.Tensor, loaded: LoadedClip) -> torch.Tensor:
    x = pixels.to(loaded.device).permute(0, 3, 1, 2).float()
    return (x / 255 - loaded.mean_c) / loaded.std_c


def wait_in_place_of_the_model(encoder: ClipEncoder, rate: float) -> None:
    """Let an encoder's model take 1 / rate seconds an image and no processor."""
    loaded = encoder._load()

    class Waiting:
        def encode_image(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(len(x) / rate)
            return torch.ones(len(x), loaded.width, device=x.device)

    encoder.key()  # of the model itself
    loaded.model = Waiting()


def pipeline_functions(
    encoder: ClipEncoder, photos: Path, n_workers: int
) -> dict[str, Callable[[], Any]]:
    """Return decoding alone and the whole encoder with so many workers."""

    def decode() -> None:
        source, loaded = image_source(photos), encoder._load()
        for _ in pixel_loader(source, loaded, 0, encoder.batch_size, n_workers):
            pass

    def encode() -> None:
        encoder.n_workers = n_workers
        encoder.encode_images(photos)

    return {f"decoding, --workers {n_workers}": decode, f"encoder, --workers {n_workers}": encode}


def show(timings: dict[str, Timing], n: int) -> list[dict[str, Any]]:
    """Print the rates and what limits the encoder; return one record for each row."""
    rate = {name: n / timing.fastest_s for name, timing in timings.items()}
    rows = [
        [
            name,
            f"{rate[name]:,.1f}",
            f"{n / timing.median_s:,.1f}",
            f"{rate[name] / rate[BARE]:.2f}",
        ]
        for name, timing in timings.items()
    ]
    print_table(["", "images/s, fastest", "median", "ratio to bare model"], rows)
    for name in timings:
        if name.startswith("encoder, "):
            decoding = rate[name.replace("encoder", "decoding")]
            slower, limit = min(("the model", rate[BARE]), ("decoding", decoding), key=_second)
            print(f"{name}: {rate[name] / limit:.0%} of its limit, {slower}, {limit:,.1f} images/s")
    return [
        {"kind": "rate", "name": name, "images_per_s": rate[name], "timing": timing}
        for name, timing in timings.items()
    ]


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print one table, return one record for each row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--model", default="ViT-B-32", help="a name of open_clip gets random weights")
    add("--device", help="as ClipEncoder takes it")
    add("--device-rate", type=float, metavar="RATE", help="wait in place of the model, images/s")
    add("--precision", help="as ClipEncoder takes it")
    add("--images", type=int, default=1024)
    add("--batch-size", type=int, default=256)
    add("--workers", type=int, nargs="+", default=[0, 1])
    add("--runs", type=int, default=3)
    add("--seed", type=int, default=0)
    add("--json", metavar="FILE", help="write the records there, one a line")
    args = parser.parse_args(arguments)
    facts = print_environment(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        photos, model = Path(temporary) / "photos", args.model
        kilobytes = write_photos(photos, args.images, args.seed)
        if model != "mini" and ":" not in model:
            model = write_random_model(Path(temporary) / "model", model, args.seed)
        encoder = ClipEncoder(
            model,
            device=args.device,
            precision=args.precision,
            batch_size=args.batch_size,
            progress=False,
        )
        if args.device_rate:
            wait_in_place_of_the_model(encoder, args.device_rate)
        functions = model_functions(encoder, photos)
        for n_workers in args.workers:
            functions |= pipeline_functions(encoder, photos, n_workers)
        device = encoder._load().device
        print(
            f"{args.images:,} JPEG files of {SIZE[0]} × {SIZE[1]}, {kilobytes:.0f} kB each; "
            f"{args.model} at {encoder.key()['precision']} in batches of {args.batch_size} on "
            f"{device_name(device)}, {torch.get_num_threads()} threads"
            + (f"; waits at {args.device_rate:g} images/s instead\n" if args.device_rate else "\n")
        )
        timings = time_in_turns(functions, args.runs, warm_up=0)
    records = [{"kind": "environment", **facts, "arguments": vars(args)}]
    records += show(timings, args.images)
    write_json_lines(args.json, records)
    return records


def device_name(device: torch.device) -> str:
    """Return what a device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


if __name__ == "__main__":
    main()
