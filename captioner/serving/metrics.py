"""Metrics of a server for Prometheus, in a registry of its own."""

from __future__ import annotations

from collections import OrderedDict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from captioner.metrics.diversity import repeats
from captioner.serving.memory import resident
from captioner.serving.tasks import Record, Reply

REMEMBERED = 1000  # captions among which a repetition is looked for
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counts and times of one server. What the captions say is measured too: a drift of it is a model gone wrong."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self._requests = Counter("captioner_requests", "Requests", ["protocol", "status"], registry=own)
        self._latency = Histogram(
            "captioner_request_seconds", "Seconds per request", ["protocol"], buckets=_SECONDS, registry=own
        )
        self._errors = Counter("captioner_errors", "Requests with an error", ["kind"], registry=own)
        self._photos = Counter("captioner_photos", "Photos", ["outcome"], registry=own)
        self._batches = Histogram(
            "captioner_batch_photos", "Photos captioned together", buckets=(1, 2, 4, 8, 16, 32, 64), registry=own
        )
        self._queue = Gauge("captioner_queue_photos", "Photos waiting", registry=own)
        self._stages = Histogram(
            "captioner_stage_seconds",
            "Seconds in the queue per photo; to read, encode and write per batch",
            ["stage"],
            buckets=_SECONDS,
            registry=own,
        )
        self._confidence = Histogram(
            "captioner_caption_confidence",
            "Confidence of captions",
            buckets=[tenth / 10 for tenth in range(1, 11)],
            registry=own,
        )
        self._words = Histogram(
            "captioner_caption_words", "Words per caption", buckets=(2, 4, 8, 12, 16, 24, 32), registry=own
        )
        self._repeated = Counter(
            "captioner_repeated_captions",
            f"Captions equal to one of the {REMEMBERED} distinct ones before",
            registry=own,
        )
        self._stuttering = Counter(
            "captioner_stuttering_captions", "Captions that repeat a word in a row, or two words anywhere", registry=own
        )
        self._memory = Gauge("captioner_memory_bytes", "Resident memory", ["process"], registry=own)
        self._memory.labels("server").set_function(resident)
        self._model = self._memory.labels("model")
        self._loaded = Gauge("captioner_model_loaded", "1 if the model is in memory", registry=own)
        self._restarts = Counter("captioner_model_restarts", "Processes of the model that were replaced", registry=own)
        self._said: OrderedDict[str, None] = OrderedDict()
        for outcome in ("captioned", "refused"):
            self._photos.labels(outcome)
        for stage in ("queue", "read", "encode", "write"):
            self._stages.labels(stage)

    def page(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    def request(self, protocol: str, status: int, seconds: float) -> None:
        self._requests.labels(protocol, str(status)).inc()
        self._latency.labels(protocol).observe(seconds)

    def error(self, kind: str) -> None:
        self._errors.labels(kind).inc()

    def waiting(self, photos: int) -> None:
        self._queue.set(photos)

    def stage(self, stage: str, seconds: float) -> None:
        self._stages.labels(stage).observe(seconds)

    def loaded(self, loaded: bool) -> None:
        self._loaded.set(loaded)
        if not loaded:
            self._model.set(0)

    def died(self) -> None:
        self._restarts.inc()
        self.loaded(False)

    def batch(self, reply: Reply) -> None:
        """Count a batch and its captions."""
        self._batches.observe(len(reply.records))
        self._model.set(reply.memory)
        for stage, seconds in reply.seconds.items():
            self.stage(stage, seconds)
        for record in reply.records:
            self._photos.labels("refused" if "error" in record else "captioned").inc()
            if "caption" in record:
                self._caption(record)

    def _caption(self, record: Record) -> None:
        text = record["caption"]
        words = [word for word, _ in record["words"]]
        self._confidence.observe(record["confidence"])
        self._words.observe(len(words))
        if repeats(words):
            self._stuttering.inc()
        if text in self._said:
            self._repeated.inc()
            self._said.move_to_end(text)
        else:
            self._said[text] = None
            if len(self._said) > REMEMBERED:
                self._said.popitem(last=False)
