"""How fast pairs are made, and where the time goes: Stable Diffusion 1.5 with random weights.

    python examples/time_synthesis.py -o out [--pairs 16] [--batch 4] [--device cuda] [--small]

The weights are random but of full size (2 GB are written), so times are those of the real model
and the pictures are noise: filters are computed but drop no pair, and masks are whole images.
`time.json` holds pairs a second, the share of UNet, aggregator, VAE and writing, and what a million
pairs would take. The first chunk warms up (and compiles) and is not counted. On a GPU matching runs
beside the UNet; `steady` is from the model's first call to its last: it leaves out the end of the
run, where there is no UNet to run beside.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from scripts import errors_in_one_line

import warpkit.synthesize.pair_pipeline as maker_module
from warpkit.aggregate.checkpoint import save_aggregator
from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.aggregate.streaming import StreamingAggregator
from warpkit.describe.options import ModelOptions
from warpkit.features.architecture import decoder_layers
from warpkit.features.codecs import VaeCodec
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.features.diffusion_settings import recorded_steps
from warpkit.features.single_file import unet_config
from warpkit.features.unet_calls import UnetCalls
from warpkit.io.whole import write_json
from warpkit.match.matcher import asked_matcher
from warpkit.synthesize.config import (
    FilterConfig,
    GenerationConfig,
    MaskConfig,
    PairLabelConfig,
    QualityConfig,
)
from warpkit.synthesize.pair_pipeline import PairPipeline
from warpkit.synthesize.records import Record, encode_records
from warpkit.synthesize.run import SynthesizeSettings
from warpkit.synthesize.writers import (
    CocoKeypointWriter,
    LayoutWriter,
    ParquetWriter,
    SetWriter,
    ShardWriter,
)
from warpkit.synthesize.writers.target import write_bytes

parser = argparse.ArgumentParser()
parser.add_argument("-o", "--output", type=Path, required=True)
parser.add_argument("--pairs", type=int, default=16)
parser.add_argument("--batch", type=int, default=4, help="pairs made together")
parser.add_argument("--device", default="cuda")
parser.add_argument("--size", type=int, default=512)
parser.add_argument("--steps", type=int, default=50, help="of a generation")
parser.add_argument("--acceleration", default="auto", help="compile is the fastest on a GPU")
parser.add_argument("--threads", type=int, default=4, help="for masks and files")
parser.add_argument("--tiny", action="store_true", help="measure the embedded model, too")
parser.add_argument("--small", action="store_true", help="a few thousand weights, to try it out")
errors_in_one_line()
args = parser.parse_args()


def save_random_model(root: Path) -> None:
    """Stable Diffusion 1.5 in diffusers' layout, its tokenizer of a few words."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from diffusers.utils import logging as diffusers_logging
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()

    torch.manual_seed(0)
    widths = {"block_out_channels": (32, 32, 32, 32)} if args.small else {}
    hidden = 32 if args.small else 768
    changes = {**widths, "cross_attention_dim": hidden}
    if args.small:
        changes["attention_head_dim"] = 8
    UNet2DConditionModel(**{**unet_config(768), **changes}).half().save_pretrained(root / "unet")
    AutoencoderKL(
        block_out_channels=(32,) * 4 if args.small else (128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        scaling_factor=0.18215,
    ).half().save_pretrained(root / "vae")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    source = root / "words"
    source.mkdir()
    vocabulary = {word: number for number, word in enumerate(words)}
    (source / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (source / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(source, model_max_length=77)
    tokenizer.save_pretrained(root / "tokenizer")
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=1 if args.small else 12,
            num_attention_heads=4 if args.small else 12,
            bos_token_id=vocabulary["<|startoftext|>"],
            eos_token_id=vocabulary["<|endoftext|>"],
        )
    ).half().save_pretrained(root / "text_encoder")
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    ).save_pretrained(root / "scheduler")


class Shares:
    """Seconds of the GPU (or the CPU) by part, while a set is made.

    Calls of the parts are put between two marks each. Marks are read once all is done, so that
    nothing waits for them. Matching runs beside the others, on a stream of its own: its time is not
    part of the whole, and what it takes from the others shows in theirs.
    """

    PARTS = (
        ("unet", UnetCalls, "__call__"),
        ("aggregator", StreamingAggregator, "add"),
        ("aggregator", StreamingAggregator, "result"),
        ("vae", VaeCodec, "encode"),
        ("vae", VaeCodec, "decode"),
        ("matching", maker_module, "find_candidates"),
    )

    BESIDE = ("matching",) if args.device.startswith("cuda") else ()

    def __init__(self) -> None:
        self.marks: list[tuple[str, Any, Any]] = []
        for part, owner, name in self.PARTS:
            setattr(owner, name, self.between_marks(part, getattr(owner, name)))

    def between_marks(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def marked(*given: Any, **named: Any) -> Any:
            start = mark()
            result = call(*given, **named)
            self.marks.append((part, start, mark()))
            return result

        return marked

    def seconds(self) -> dict[str, float]:
        wait()
        found: dict[str, float] = {}
        for part, start, end in self.marks:
            found[part] = found.get(part, 0.0) + between(start, end)
        return found

    def model_span(self) -> float:
        """Seconds from the start of the model's first call to the end of its last."""
        calls = [(start, end) for part, start, end in self.marks if part not in self.BESIDE]
        zero = calls[0][0]
        return max(between(zero, end) for _, end in calls) - min(
            between(zero, start) for start, _ in calls
        )


def mark() -> Any:
    if not on_gpu:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(start: Any, end: Any) -> float:
    seconds: float = start.elapsed_time(end) / 1000 if on_gpu else end - start
    return seconds


def wait() -> None:
    if on_gpu:
        torch.cuda.synchronize()


def save_aggregator_of(model: Path) -> Path:
    """The published network's shape over all layers and the steps that the paper records."""
    layers = decoder_layers(str(model))
    shape = AggregationConfig(
        model=str(model),
        layers=tuple(layers),
        channels=tuple(layers.values()),
        steps=recorded_steps(args.steps),
        num_steps=args.steps,
    )
    path = args.output / "aggregator.safetensors"
    save_aggregator(path, AggregationNetwork(shape))
    return path


def write_all(records: list[Record], folder: Path) -> int:
    """The kept records in all five formats; returns their bytes."""

    def place(name: str) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        return folder / name

    writers: list[SetWriter] = [
        LayoutWriter(place, spair=True, dhf=True),
        CocoKeypointWriter(place, points=32, description="timing"),
        ShardWriter(place, size=1000),
        ParquetWriter(place, size=1000),
    ]
    for writer in writers:
        for record in records:
            writer.add(record)
        writer.close()
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def told(
    model: str, aggregator: Path | None, batch: int, pairs: int
) -> tuple[SynthesizeSettings, ModelOptions]:
    # Limits that every match passes: all filters are computed and no pair is dropped by them.
    filters = FilterConfig(cycle=9, ratio=9, flip=9, coherence=9, affine=9)
    options = ModelOptions(
        model=model,
        aggregator=aggregator,
        device=args.device,
        size=args.size if aggregator else None,
        acceleration=args.acceleration if aggregator else "auto",
        batch_size=batch,
    )
    settings = SynthesizeSettings(
        pairs=pairs,
        batch=batch,
        threads=args.threads,
        generation=GenerationConfig(
            classes=("a", "b") if aggregator else ("Motorbikes", "airplanes"),
            guidance=7.5,
            steps=None if aggregator else args.steps,
        ),
        masks=MaskConfig(kind="whole"),
        labels=PairLabelConfig(least=1, filters=filters),
        quality=QualityConfig(images=0, sheets=0),
    )
    return settings, options


def measure(name: str, config: SynthesizeSettings, options: ModelOptions) -> dict[str, Any]:
    """Make a chunk to warm up, then the others with the marks set, and write them."""
    print(f"{name}: loading", flush=True)
    started = time.perf_counter()
    maker = PairPipeline(config, options.load_extractor(), asked_matcher(options.engine))
    if isinstance(maker.extractor.backbone, DiffusionBackbone):
        give_contrast(maker.extractor.backbone.codec)
    plans = config.plans()
    chunks = [
        [plans.pair(n) for n in range(first, first + config.batch)]
        for first in range(0, len(plans), config.batch)
    ]
    loaded = time.perf_counter()
    maker.make(chunks[0])
    wait()
    warm = time.perf_counter()
    print(f"{name}: loaded {loaded - started:.1f} s, first chunk {warm - loaded:.1f} s", flush=True)
    chunk_folder = args.output / name / "chunks"
    chunk_folder.mkdir(parents=True, exist_ok=True)
    shares.marks.clear()
    first_seconds = dict(maker.seconds)
    records: list[Record] = []
    chunk_seconds = []
    for made in maker.run(chunks[1:]):
        write_bytes(chunk_folder / f"{len(records):07d}.tar", encode_records(made))
        records += made
        chunk_seconds.append(round(time.perf_counter() - warm, 2))
        print(f"{name}: {len(records)} pairs in {chunk_seconds[-1]} s", flush=True)
    wait()
    made_in = time.perf_counter() - warm
    parts = shares.seconds()
    beside = {part: parts.pop(part, 0.0) for part in shares.BESIDE}
    kept = [record for record in records if record.kept]
    written = time.perf_counter()
    size = write_all(kept, args.output / name / "set")
    parts["writing"] = time.perf_counter() - written
    whole = made_in + parts["writing"]
    writing = parts["writing"] / max(1, len(kept))
    steady = shares.model_span() / len(records)
    parts["rest"] = whole - sum(parts.values())
    return {
        "pairs": len(records),
        "kept": len(kept),
        "dropped": sorted({record.meta["reason"] for record in records if not record.kept}),
        "batch": config.batch,
        "threads": config.threads,
        "acceleration": options.acceleration,
        "side": maker.extractor.size,
        "seconds": {"load": loaded - started, "first chunk": warm - loaded, "make": made_in},
        "chunk_ends": chunk_seconds,
        "pairs_a_second": len(records) / whole,
        "share": {part: seconds / whole for part, seconds in parts.items()},
        "share_while_making": {
            part: seconds / made_in for part, seconds in parts.items() if part != "writing"
        },
        "seconds_a_pair_beside": {part: spent / len(records) for part, spent in beside.items()},
        "seconds_a_pair": {part: seconds / len(records) for part, seconds in parts.items()},
        "thread_seconds_a_pair": {
            part: (seconds - first_seconds[part]) / len(records)
            for part, seconds in maker.seconds.items()
        },
        "peak_gigabytes": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,
        "reserved_gigabytes": torch.cuda.max_memory_reserved() / 1e9 if on_gpu else None,
        "steady": {
            "seconds_a_pair": steady,
            "share": {
                part: seconds / len(records) / (steady + writing)
                for part, seconds in parts.items()
                if part not in ("writing", "rest")
            },
        },
        "million_pairs": {
            "device_hours": steady * 1e6 / 3600,
            "writing_hours": writing * 1e6 / 3600,
            "terabytes": size / max(1, len(kept)) * 1e6 / 1e12,
        },
    }


@torch.no_grad()
def give_contrast(codec: Any) -> None:
    """Scale the decoder's last layer, so that random weights do not draw flat images."""
    if not isinstance(codec, VaeCodec):
        return
    last: Any = codec.vae.decoder.conv_out
    noise = torch.randn(1, codec.channels, args.size // 8, args.size // 8)
    drawn = codec.vae.decode(noise.to(last.weight)).sample.float()
    last.weight *= 0.5 / float(drawn.std())
    last.bias *= 0
    print(f"contrast {float(drawn.std()):.2g}", flush=True)


on_gpu = args.device.startswith("cuda")
args.output.mkdir(parents=True, exist_ok=True)
shares = Shares()
report: dict[str, Any] = {"device": torch.cuda.get_device_name() if on_gpu else args.device}
model = args.output / "model"
if not (model / "scheduler").is_dir():
    with torch.device(args.device):  # where random numbers are made faster
        save_random_model(model)
config, options = told(str(model), save_aggregator_of(model), args.batch, args.pairs)
report["sd15"] = measure("sd15", config, options)
write_json(args.output / "time.json", report)
if args.tiny:
    report["tiny"] = measure("tiny", *told("tiny", None, args.batch, args.pairs))
    write_json(args.output / "time.json", report)
print(json.dumps(report, indent=2))
