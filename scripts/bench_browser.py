"""A benchmark of the page for browsers in Chromium, as rows of a Markdown table (docs/browser.md).

    sh examples/browser/build.sh SITE
    python scripts/bench_browser.py --site SITE --photos FOLDER [--count 50]

The first visit loads everything from a server and runs one thread; the second one runs without a server, with as many
threads as the page chooses. Cold start is the time from the start of the browser to the first caption; photos per
second count the others. ``equal`` are the captions that equal greedy search of the same int8 files in ONNX Runtime for
Python, which reads the photos itself, and those of the checkpoint in fp32 with torch.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import importlib.util
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
DONE = "document.querySelectorAll('.caption:not(.waiting)').length"
TEXTS = "[...document.querySelectorAll('.caption')].map((one) => one.textContent)"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that does not log."""

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, required=True, help="folder that build.sh wrote")
    parser.add_argument("--photos", type=Path, required=True, help="folder with photos")
    parser.add_argument("--model", help="the captioner of the page, the shipped one by default")
    parser.add_argument("--count", type=int, default=50, help="photos")
    args = parser.parse_args()
    photos = [path.resolve() for path in sorted(args.photos.iterdir()) if path.suffix.lower() in SUFFIXES][: args.count]
    import captioner

    wanted = {
        "ONNX Runtime int8": captioner.load(args.site / "model", precision="int8", device="cpu"),
        "torch fp32": captioner.load(args.model, device="cpu"),
    }
    texts = {name: [pipe.caption(str(photo), beams=1).text for photo in photos] for name, pipe in wanted.items()}
    files = [path for path in args.site.rglob("*") if path.is_file()]
    model = sum(path.stat().st_size for path in files if path.is_relative_to(args.site / "model"))
    print(f"{len(photos)} photos; model {model / 1e6:.1f} MB, page {sum(f.stat().st_size for f in files) / 1e6:.1f} MB")
    print(f"| visit | threads | {' | '.join(f'equal to {name}' for name in texts)} | cold start | photos / s |")
    print("|---|---|" + "---|" * len(texts) + "---|---|")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(args.site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        for visit in ("first", "second, without a server"):
            found, threads, cold, rate = visited(Path(folder), f"http://127.0.0.1:{server.server_port}/", photos)
            equal = [sum(a == b for a, b in zip(found, each, strict=True)) for each in texts.values()]
            cells = [visit, threads, *(f"{count} of {len(photos)}" for count in equal), f"{cold:.1f} s", f"{rate:.2f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
            if visit == "first":
                server.shutdown()
                server.server_close()


def visited(folder: Path, address: str, photos: list[Path]) -> tuple[list[str], str, float, float]:
    """Caption ``photos`` in a new browser; return the captions, the threads, and the two times."""
    start = time.perf_counter()
    browser = browser_class()(folder)
    try:
        browser.open(address)
        give(browser, photos[:1])
        browser.wait(f"{DONE} === 1")
        first = time.perf_counter()
        give(browser, photos[1:])
        browser.wait(f"{DONE} === {len(photos)}")
        rate = (len(photos) - 1) / (time.perf_counter() - first)
        threads = browser.run("document.documentElement.dataset.threads")
        return browser.run(TEXTS), threads, first - start, rate
    finally:
        browser.send("Browser.close")
        time.sleep(1)  # the profile is written
        browser.close()


def browser_class() -> Any:
    """Return the class of the tests that drives Chromium."""
    spec = importlib.util.spec_from_file_location("browser", ROOT / "tests" / "reviewing" / "browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Browser


def give(browser: Any, files: list[Path]) -> None:
    """Choose files in the page's input."""
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
    browser.send("DOM.setFileInputFiles", nodeId=node, files=list(map(str, files)))


if __name__ == "__main__":
    main()
