"""Serve captions over HTTP, at the addresses of PhotoPrism, OpenAI, Ollama, Hugging Face and A1111.

The paths are listed at /docs. SIGTERM and Ctrl-C answer what was accepted and end the server.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from captioner.cli.arguments import argument, group
from captioner.cli.options import GENERATION, MODEL, Device
from captioner.cli.output import tell
from captioner.errors import UsageError, require
from captioner.system.allocation import keep_freed_memory

if TYPE_CHECKING:
    from captioner.pipelines import CaptionPipeline
    from captioner.serving.replicas import Scale
    from captioner.serving.settings import Settings

KEY = "CAPTIONER_API_KEY"


@dataclass(frozen=True, kw_only=True)
class Access:
    """The clients and what they may ask for."""

    api_key: str | None = field(
        default=None,
        metadata=argument(
            help=f"key that clients send as a bearer token; {KEY} in the environment keeps it out of the process list",
            metavar="K",
        ),
    )
    cors: tuple[str, ...] = field(
        default=(), metadata=argument(help="allow web pages of this origin; repeatable", metavar="ORIGIN")
    )
    allow_host: tuple[str, ...] = field(
        default=(),
        metadata=argument(help="name in a Host header to answer to without a key; repeatable", metavar="NAME"),
    )
    allow_urls: bool = field(
        default=False, metadata=argument(help="fetch images from public http(s) URLs that clients name")
    )
    root: str | None = field(
        default=None, metadata=argument(help="read images below this folder that clients name by path", metavar="DIR")
    )


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits."""

    batch: int = field(default=32, metadata=argument(help="photos captioned together", metavar="N", least=1))
    wait: int = field(
        default=5, metadata=argument(help="milliseconds to wait for further photos", metavar="MS", least=0)
    )
    queue: int = field(default=256, metadata=argument(help="waiting photos; more get status 503", metavar="N", least=1))
    max_photos: int = field(default=32, metadata=argument(help="photos per request", metavar="N", least=1))
    max_body: int = field(default=64, metadata=argument(help="MiB per request", metavar="MIB", least=1))
    max_megapixels: int = field(default=200, metadata=argument(help="megapixels per photo", metavar="N", least=1))
    timeout: int = field(default=120, metadata=argument(help="seconds per request", metavar="S", least=1))
    drain: int = field(
        default=30, metadata=argument(help="seconds from SIGTERM to the end of the server", metavar="S", least=1)
    )
    idle_unload: float = field(
        default=0.0,
        metadata=argument(help="unload the model after MIN minutes without a request; 0: never", metavar="MIN"),
    )


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The copies of the model on a Ray cluster."""

    ray: str | None = field(
        default=None,
        metadata=argument(
            help="Ray cluster that holds copies of the model: auto, host:port, or local", metavar="ADDRESS"
        ),
    )
    replicas: str | None = field(
        default=None, metadata=argument(help="copies, or least:most, which follow the load (default: 1)", metavar="N")
    )
    replica_cpus: float = field(default=1.0, metadata=argument(help="cores per copy (default: 1)", metavar="C"))


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner serve`."""

    model: str | None = field(default=None, metadata=MODEL)
    host: str = field(
        default="127.0.0.1", metadata=argument(help="address to listen at (default: %(default)s)", metavar="H")
    )
    port: int = field(
        default=8000, metadata=argument(help="port; 0 chooses a free one (default: %(default)s)", metavar="N", least=0)
    )
    device: Device
    access: Access = field(metadata=group("access", "by default only this machine, without a key; docs/serve.md"))
    bounds: Bounds = field(metadata=group("limits", "each with its default in docs/serve.md"))
    cluster: Cluster = field(metadata=group("several machines", "docs/serve.md"))
    generation: Mapping[str, Any] = field(metadata=GENERATION)


def run(options: Options) -> int:
    for package in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        require(package, "serve", "`captioner serve`")
    from functools import partial

    from captioner.serving.serve import serve

    settings, scale = _settings(options), _scale(options)
    if not settings.key and not _is_loopback(options.host):
        tell(
            f"warning: anyone who reaches {options.host}:{options.port} may use this server; set --api-key, or {KEY} "
            "in the environment"
        )
    model = settings.model if scale is None or settings.model is None else _everywhere(settings.model)
    loading = partial(load_model, model, options.device, options.generation)
    failure = serve(settings, loading, options.host, options.port, lambda url: tell(f"listening at {url}"), scale=scale)
    if failure is not None:
        tell(failure)
        return 1
    return 0


def load_model(model: str | None, device: Device, options: Mapping[str, Any] | None = None) -> CaptionPipeline:
    """Load the pipeline, in the model's process: it never imports what the server needs, nor the server torch.

    ``options`` are those of all captions; the options of a request change them. Raises ``CaptionerError`` for options
    that the model cannot follow.
    """
    from captioner.captioning.batches import check_learnt
    from captioner.config import with_options
    from captioner.generation.rules import compile_rules
    from captioner.pipelines import load

    keep_freed_memory()
    pipe = load(model, device=device.device, precision=device.checked_precision())
    checkpoint = pipe.checkpoint
    checkpoint.generation = with_options(checkpoint.generation, options or {})
    # A server whose own options do not fit its model would start, and refuse every photo.
    check_learnt(checkpoint, checkpoint.generation)
    checkpoint.tokenizer.config.speaking(checkpoint.generation.language)
    compile_rules(checkpoint.generation, checkpoint.tokenizer)
    return pipe


def _settings(options: Options) -> Settings:
    from captioner.serving.settings import MIB, Limits, Settings

    access, bounds = options.access, options.bounds
    key = access.api_key if access.api_key is not None else os.environ.get(KEY, "")
    if access.api_key == "" or key != key.strip() or not key.isprintable():
        raise UsageError("the key is empty, or holds spaces at its ends or control codes; choose another one")
    if access.root is not None and not os.path.isdir(access.root):
        raise UsageError(f"--root {access.root} is not a folder; name one")
    if not 0 <= bounds.idle_unload < 1e6:
        raise UsageError("--idle-unload is a number of minutes of at least 0")
    limits = Limits(
        batch=bounds.batch,
        wait=bounds.wait / 1000,
        queue=bounds.queue,
        photos=min(bounds.max_photos, bounds.queue),
        body=bounds.max_body * MIB,
        bodies=max(8 * bounds.max_body, 512) * MIB,
        pixels=bounds.max_megapixels * 1_000_000,
        timeout=bounds.timeout,
        drain=bounds.drain,
    )
    return Settings(
        model=options.model,
        device=options.device.device,
        precision=options.device.precision,
        key=key,
        origins=access.cors,
        hosts=access.allow_host,
        allow_urls=access.allow_urls,
        root=access.root,
        generation=options.generation,
        idle=bounds.idle_unload,
        limits=limits,
    )


def _scale(options: Options) -> Scale | None:
    from captioner.serving.replicas import MOST, Scale

    cluster = options.cluster
    if cluster.ray is None:
        if cluster.replicas is not None or cluster.replica_cpus != 1.0:
            raise UsageError("--replicas and --replica-cpus are for a Ray cluster; add --ray ADDRESS")
        return None
    if options.bounds.idle_unload:
        raise UsageError("with --ray, --replicas 0:N removes an idle model from memory; leave out --idle-unload")
    form = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", cluster.replicas or "1")
    least, most = (int(form[1]), int(form[2] or form[1])) if form else (0, 0)
    if not least <= most <= MOST or most < 1:
        raise UsageError(f"--replicas is a number from 1 to {MOST}, or least:most such as 1:8")
    if not 0 < cluster.replica_cpus < 1e4:
        raise UsageError("--replica-cpus is a number of cores above 0")
    return Scale(address=cluster.ray, least=least, most=most, cpus=cluster.replica_cpus)


def _everywhere(model: str) -> str:
    """Return a model's name for other processes: a path from the root, or a hub id as it is."""
    return os.path.abspath(model) if os.path.exists(model) else model


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
