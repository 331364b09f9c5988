"""The model as a deployment of Ray Serve: copies of it on the machines of a cluster, behind the queue of this server.

Protocols, limits and the queue stay in the process of `captioner serve`, which gives each copy one batch at a time. Ray
starts the copies, replaces those that die, and changes their number with the load. A batch whose copy died runs again,
so a client gets its answer as without Ray.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from captioner.errors import CaptionerError, DeviceMemoryError, UsageError, reason_of
from captioner.serving.tasks import About, Died, Photo, Reply, Task, Unavailable, opened
from captioner.system.cluster import connect, ray_module

if TYPE_CHECKING:
    from captioner.pipelines import CaptionPipeline

PURPOSE = "`captioner serve --ray`"
LOADING = 1800.0  # seconds to load a model, which may be downloaded first
LOOK = 1.0  # seconds between two looks at the number of copies
GRACE = 10.0  # seconds for a batch to reach its copy and to return
DELETING = 5.0  # seconds to remove the copies from the cluster
GROWING, SHRINKING = 10.0, 300.0  # seconds of more, or of less, load before the number changes
MOST = 256  # copies behind one server
_DEPLOYMENT = "Model"
_log = logging.getLogger("captioner.serving")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The number of copies, from ``least`` to ``most``, and the cores of each."""

    address: str
    least: int = 1
    most: int = 1
    cpus: float = 1.0


class Replicas:
    """A model in the processes of a cluster. ``load`` is pickled, so every machine has this package."""

    def __init__(self, load: Callable[[], CaptionPipeline], pixels: int, scale: Scale, name: str) -> None:
        self._load, self._pixels, self._scale, self._name = load, pixels, scale, name
        self.most = scale.most
        self._live = 0
        self._handle: Any = None
        self._waiting: set[Any] = set()  # responses of Ray Serve
        self._ended = threading.Event()

    @property
    def places(self) -> int:
        """The copies that run; one more than those while there may be more, since that makes Ray start one."""
        return min(self.most, self._live + (self._scale.least < self.most))

    def connect(self) -> None:
        """Connect to the cluster. Raises ``MissingExtraError``, and ``UsageError`` for one that is too small."""
        ray_module("ray.serve", PURPOSE)
        connect(self._scale.address, PURPOSE)
        cores = ray_module("ray", PURPOSE).cluster_resources().get("CPU", 0)
        least = max(1, self._scale.least)
        if self._scale.address == "local" and least * self._scale.cpus > cores:
            words = f"{least} replicas of {self._scale.cpus:g} cores do not fit on the {cores:g} cores of this machine"
            raise UsageError(f"{words}; lower --replicas or --replica-cpus")

    def start(self) -> About:
        """Deploy the model and wait until a copy has loaded it. Raises ``CaptionerError``, and ``Died``."""
        found: list[str | Exception] = []
        # Ray's wait for a deployment cannot be ended, so it is left alone at the end of the server.
        waiting = threading.Thread(target=self._deploy, args=(found,), daemon=True)
        waiting.start()
        while waiting.is_alive() and not self._ended.is_set():
            waiting.join(0.1)
        if self._ended.is_set() or not found:
            raise Died("the server ended")
        if isinstance(found[0], Exception):
            raise Died(self._why() or reason_of(found[0])) from found[0]
        about = About(**opened(json.loads(found[0]))["about"])
        threading.Thread(target=self._look, daemon=True).start()
        return about

    def run(self, task: Task, photos: list[Photo], patience: float) -> Reply:
        """Run a task on one of the copies.

        Raises ``CaptionerError`` for a task that the model cannot do, ``Unavailable`` and ``Died``.
        """
        from ray.exceptions import RayError

        if self._ended.is_set():
            raise Died("the server ended")
        response = self._handle.run.remote(task, photos, patience)
        self._waiting.add(response)
        try:
            reply = response.result(timeout_s=patience + GRACE)
        except TimeoutError:
            response.cancel()
            if not self._live:
                raise Unavailable("no copy of the model runs") from None
            raise Died(f"the model did not answer within {patience:g} seconds") from None
        except RayError as error:
            raise Died(f"a copy of the model ended ({type(error).__name__})") from None
        except Exception as error:  # of Ray Serve: no copy takes the task, or it was cancelled
            raise Unavailable(reason_of(error)) from None
        finally:
            self._waiting.discard(response)
        return Reply(**opened(json.loads(reply))["reply"])

    def stop(self) -> None:
        """Remove the model from the cluster."""
        deleting = threading.Thread(target=self._delete, daemon=True)
        deleting.start()
        deleting.join(DELETING)
        self._live = 0

    def end(self) -> None:
        """End all tasks at once, from any thread."""
        self._ended.set()
        for response in list(self._waiting):
            with contextlib.suppress(Exception):
                response.cancel()

    def _deploy(self, found: list[str | Exception]) -> None:
        """Put the first copy's words about its model into ``found``, or the reason why there is none."""
        try:
            serve, scale = ray_module("ray.serve", PURPOSE), self._scale
            _quiet()
            serve.start(proxy_location="Disabled")  # this server is the only one with a port
            size: dict[str, Any] = {"num_replicas": scale.least}
            if scale.least < scale.most:
                bounds = {"min_replicas": scale.least, "max_replicas": scale.most}
                delays = {"upscale_delay_s": GROWING, "downscale_delay_s": SHRINKING}
                start = {"initial_replicas": max(1, scale.least), "target_ongoing_requests": 1}
                size = {"autoscaling_config": {**bounds, **delays, **start}}
            resources = ray_module("ray", PURPOSE).cluster_resources()
            deployment = serve.deployment(
                Replica,
                name=_DEPLOYMENT,
                max_ongoing_requests=1,
                graceful_shutdown_timeout_s=1,
                health_check_period_s=2,
                ray_actor_options={"num_cpus": scale.cpus, "num_gpus": 1 if resources.get("GPU", 0) >= 1 else 0},
                **size,
            )
            application = deployment.bind(self._load, self._pixels, max(1, int(scale.cpus)))
            self._handle = serve.run(application, name=self._name, route_prefix=None)
            self._live = max(1, scale.least)
            found.append(self._handle.about.remote().result(timeout_s=LOADING))
        except Exception as error:
            found.append(error)

    def _delete(self) -> None:
        with contextlib.suppress(Exception):  # a server that ends early has deployed nothing
            ray_module("ray.serve", PURPOSE).delete(self._name)

    def _look(self) -> None:
        """Keep the number of running copies up to date."""
        while not self._ended.wait(LOOK):
            try:
                self._live = self._status().replica_states.get("RUNNING", 0)
            except Exception as error:  # the cluster may be away for a while
                _log.warning("the cluster does not say which copies of the model run: %s", reason_of(error))

    def _why(self) -> str:
        """Return Ray's words about a deployment that failed; empty if there are none."""
        try:
            return str(self._status().message).strip().splitlines()[-1]
        except Exception:
            return ""

    def _status(self) -> Any:
        return ray_module("ray.serve", PURPOSE).status().applications[self._name].deployments[_DEPLOYMENT]


class Replica:
    """One copy of the model, in a process of Ray Serve, that answers like the one process of a server without Ray."""

    def __init__(self, load: Callable[[], CaptionPipeline], pixels: int, threads: int) -> None:
        import torch

        from captioner.serving.child import Model

        torch.set_num_threads(threads)
        self._model: Model | None = None
        self._refused = ""
        try:
            self._model = Model(load(), pixels)
        except CaptionerError as error:  # Ray would try again, and hide the sentence
            self._refused = str(error)

    def about(self) -> str:
        """Return the facts about the model as JSON."""
        return json.dumps({"refused": self._refused} if self._model is None else {"about": asdict(self._model.about())})

    def run(self, task: Task, photos: list[Photo], patience: float) -> str:
        """Return the message about a task as JSON; end this process if it takes too long, or if memory is short."""
        import faulthandler

        from captioner.serving.child import done

        assert self._model is not None
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            faulthandler.dump_traceback_later(patience, exit=True, file=nowhere)
            try:
                return json.dumps(done(self._model, task, photos))
            except (MemoryError, DeviceMemoryError):
                os._exit(1)
            finally:
                faulthandler.cancel_dump_traceback_later()


def _quiet() -> None:
    """Show only warnings of Ray Serve, which otherwise logs each of its steps to stderr."""
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.WARNING)
