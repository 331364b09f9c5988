"""A benchmark: `captioner serve` under many clients, against `captioner caption` over the same photos in the same run.

    python scripts/bench_serve.py [--clients 64] [--seconds 120] [--rounds 2] [--model M] [--precision fp32]
    python scripts/bench_serve.py --settings 64:8:5 64:32:5 4:32:0 [--seconds 10]   # CLIENTS:BATCH:WAIT, one row each

The photos of datasets/photos, each in three sizes, are captioned as a folder and then by clients that each send one
photo after another, in turns. Prints photos per second of both, their ratio, and the latency of requests, and checks
that each caption equals the folder's. The clients run on the same cores as the server.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from captioner.doctor.machine import cpu_name

ROOT = Path(__file__).resolve().parents[1]
SIZES = (320, 1024, 3000)  # longest sides in pixels
COPIES = 8  # of each photo in the folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--copies", type=int, default=COPIES)
    parser.add_argument("--model")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch", default="32")
    parser.add_argument("--wait", default="5")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="longest sides of the photos in pixels")
    parser.add_argument("--settings", nargs="+", help="rows of CLIENTS:BATCH:WAIT instead, without the folder")
    args = parser.parse_args()
    model = ["--precision", args.precision, *(["--model", args.model] if args.model else [])]
    with tempfile.TemporaryDirectory(prefix="captioner-bench-") as folder:
        make_photos(Path(folder), args.copies, args.sizes)
        photos = sorted(Path(folder).iterdir())
        if args.settings:
            table(args.settings, model, photos, args.seconds)
            return
        folders, servers, latencies = [], [], []
        with server([*model, "--batch", args.batch, "--wait", args.wait]) as (host, port):
            for _ in range(args.rounds):
                rate, captions = caption_folder(folder, model, int(args.batch))
                folders.append(rate)
                done = asyncio.run(load(host, port, photos, captions, args.clients, args.seconds))
                servers.append(sum(done.in_time) / args.seconds)
                latencies += done.seconds
    print(f"{cpu_name()}, {os.cpu_count()} cores, {args.precision}, batch {args.batch}\n")
    print("| clients | folder, photos/s | server, photos/s | ratio | p50 | p95 | p99 |\n|---|---|---|---|---|---|---|")
    marks = statistics.quantiles(latencies, n=100)
    ratio = statistics.median(b / a for a, b in zip(folders, servers, strict=True))
    print(
        f"| {args.clients} | {statistics.median(folders):.1f} | {statistics.median(servers):.1f} | {ratio:.2f} "
        f"| {marks[49]:.2f} s | {marks[94]:.2f} s | {marks[98]:.2f} s |"
    )


def table(settings: list[str], model: list[str], photos: list[Path], seconds: float) -> None:
    """Print a row per setting: photos per second, and the time of a request."""
    print("| clients | `--batch` | `--wait` | photos/s | p50 | p95 |\n|---|---|---|---|---|---|")
    for setting in settings:
        clients, batch, wait = setting.split(":")
        with server([*model, "--batch", batch, "--wait", wait]) as (host, port):
            asyncio.run(load(host, port, photos, None, int(clients), 1.0))  # the first batches are slower
            begin = time.perf_counter()
            done = asyncio.run(load(host, port, photos, None, int(clients), seconds))
            rate = len(done.seconds) / (time.perf_counter() - begin)
        marks = statistics.quantiles(done.seconds, n=100)
        print(f"| {clients} | {batch} | {wait} ms | {rate:.1f} | {marks[49]:.2f} s | {marks[94]:.2f} s |", flush=True)


def make_photos(folder: Path, copies: int, sizes: Sequence[int]) -> None:
    for path in sorted((ROOT / "datasets" / "photos").glob("*.jpg")):
        with Image.open(path) as photo:
            for size in sizes:
                scale = size / max(photo.size)
                side = (round(photo.width * scale), round(photo.height * scale))
                first = folder / f"0-{path.stem}-{size}.jpg"
                photo.convert("RGB").resize(side).save(first, quality=90)
                for copy in range(1, copies):
                    os.link(first, folder / f"{copy}-{path.stem}-{size}.jpg")


def caption_folder(folder: str, model: list[str], batch: int) -> tuple[float, dict[str, str]]:
    """Return photos per second between the first batch and the last, and the captions by file name."""
    line = [sys.executable, "-m", "captioner", "caption", folder, "--json", "--batch-size", str(batch), *model]
    names = [str(path) for path in sorted(Path(folder).iterdir())]  # links to one file are one photo in a folder
    process = subprocess.Popen([*line[:4], "-", *line[5:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n".join(names))
    process.stdin.close()
    captions: dict[str, str] = {}
    begin = 0.0
    for number, row in enumerate(process.stdout, 1):
        record = json.loads(row)
        captions[Path(record["path"]).name] = record["caption"]
        if number == batch:
            begin = time.perf_counter()
    return (len(captions) - batch) / (time.perf_counter() - begin), captions


@contextmanager
def server(arguments: list[str]) -> Iterator[tuple[str, int]]:
    """Run a server until the end of the block."""
    line = [sys.executable, "-m", "captioner", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = re.search(r"http://([\d.]+):(\d+)", process.stderr.readline())
        assert found, "the server ended"
        host, port = found[1], int(found[2])
        while asyncio.run(ask(host, port, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] != 200:
            time.sleep(0.2)
        yield host, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@dataclass
class Done:
    """The requests of all clients: their seconds, and which ended within the time of the benchmark."""

    seconds: list[float] = field(default_factory=list)
    in_time: list[bool] = field(default_factory=list)


async def load(
    host: str, port: int, photos: list[Path], captions: dict[str, str] | None, clients: int, seconds: float
) -> Done:
    """Return what the clients measured. Fails for a caption that differs from the folder's ``captions``."""
    requests = [(path.name, post(path.read_bytes())) for path in photos]
    done = Done()
    end = time.perf_counter() + seconds

    async def client(place: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        for name, request in itertools.islice(itertools.cycle(requests), place * 7 % len(requests), None):
            begin = time.perf_counter()
            if begin > end:
                break
            status, body = await ask_on(reader, writer, request)
            assert status == 200, body
            caption = json.loads(body)["captions"][0]["caption"]
            assert captions is None or caption == captions[name], name
            done.seconds.append(time.perf_counter() - begin)
            done.in_time.append(time.perf_counter() <= end)
        writer.close()

    await asyncio.gather(*(client(place) for place in range(clients)))
    return done


def post(photo: bytes) -> bytes:
    head = (
        f"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(photo)}\r\n\r\n"
    )
    return head.encode() + photo


async def ask(host: str, port: int, request: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return await ask_on(reader, writer, request)
    finally:
        writer.close()


async def ask_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """Return status and body of one request on an open connection."""
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length, head
    return int(head.split()[1]), await reader.readexactly(int(length[1]))


if __name__ == "__main__":
    main()
