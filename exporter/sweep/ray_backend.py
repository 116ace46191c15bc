"""Runs jobs on the nodes of a Ray cluster.

A node offers targets as custom resources: ``ray start --address=HOST:PORT --resources='{"sm86": 1}'``. One that names
no target offers ``cpu``. `Scheduler` decides where jobs run: Ray would wait for ever for a target that nobody has. A
timed job takes all CPUs and the whole target of its node, so that nothing else of Ray's runs there.
"""

import logging
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attn_export.exporter.artifacts import CPU
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError, first_line
from attn_export.exporter.sweep import work
from attn_export.exporter.sweep.cells import canonical
from attn_export.exporter.sweep.inputs import CODE, packed
from attn_export.exporter.sweep.job import Finished, Inputs, Job, Node, Run
from attn_export.exporter.sweep.ray_task import OWN, Packed, Shipment, Shipped, compute, digest
from attn_export.exporter.system.files import unwritable
from attn_export.exporter.system.packages import installed

INSTALL = "pip install 'attn-export[ray]'"
POLL_SECONDS, REACH_SECONDS, NODES_SECONDS = 0.5, 5.0, 1.0
LETTERS = 6  # of a node's identifier in its name
USUAL = "CPU"  # Ray's own resource


class RayBackend:
    """The nodes of a Ray cluster.

    The address is ``HOST:PORT`` of the cluster, or ``ray://HOST:PORT`` of its client server; ``slots`` is how many
    jobs that aren't timed run at once on a node.

    Raises:
        RuntimeUnavailableError: Ray isn't installed, or the cluster can't be reached.
    """

    def __init__(self, run: Run, address: str, scratch: Path, slots: int = 1) -> None:
        self._ray = connected(address)
        self._scratch, self._slots = scratch, slots
        self._run = run
        self._task = self._ray.remote(max_retries=0)(compute_on_node)
        # A worker of its own: other sources may have modules of the same names.
        self._task_with_code = self._ray.remote(max_retries=0, max_calls=1)(compute_on_node)
        self._shipped: dict[Path, Shipped] = {}
        self._running: dict[Any, str] = {}
        self._found: tuple[Node, ...] = ()
        self._asked = float("-inf")
        self._resources: dict[str, tuple[str, dict[str, float]]] = {}  # identifier and resources, by a node's name

    def nodes(self) -> Sequence[Node]:
        """Those that Ray says are alive, asked at most once a second."""
        if self.now() - self._asked > NODES_SECONDS:
            self._asked = self.now()
            alive = {name_of(entry): entry for entry in self._ray.nodes() if entry["Alive"]}
            self._resources = {name: (entry["NodeID"], entry["Resources"]) for name, entry in alive.items()}
            self._found = tuple(
                Node(name, targets_of(entry["Resources"]), self._slots) for name, entry in sorted(alive.items())
            )
        return self._found

    def submit(self, job: Job, node: Node, inputs: Inputs) -> None:
        """Start a job on a node, and on no other."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        identifier, resources = self._resources[node.name]
        shipment = {role: tuple(self._ship(role, path) for path in paths) for role, paths in inputs.items()}
        own = {name: amount for name, amount in resources.items() if target_of(name) == job.target and name != USUAL}
        task = self._task_with_code if CODE in job.files else self._task
        reference = task.options(
            num_cpus=resources.get(USUAL, 0) if job.timed else min(1, resources.get(USUAL, 0)),
            resources=own if job.timed else None,
            scheduling_strategy=NodeAffinitySchedulingStrategy(identifier, soft=False),
            name=job.name,
        ).remote(job, shipment, self._run, node.name, installed(OWN))
        self._running[reference] = job.key

    def _ship(self, role: str, path: Path) -> Shipped:
        """Put a file or folder into Ray's object store, once; a node fetches it once."""
        if path not in self._shipped:
            content, folder = packed(role, path), path.is_dir()
            name = f"{path.resolve().name}.zip" if folder else path.name
            self._shipped[path] = Shipped(name, digest(content), self._ray.put(content), folder)
        return self._shipped[path]

    def wait(self) -> Sequence[Finished]:
        """What has finished; waits a moment for the first."""
        if not self._running:
            work.rest(POLL_SECONDS)
            return ()
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=POLL_SECONDS)
        return [self._finished(reference) for reference in ready]

    def _finished(self, reference: Any) -> Finished:
        key = self._running.pop(reference)
        try:
            packed: Packed = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # before the job: the node can't import it
            return Finished(key, died=f"the job can't be started: {last_line(error)}")
        except self._ray.exceptions.RayError as error:  # the worker or the node is gone; Ray can't tell at once
            self._asked = float("-inf")
            return Finished(key, died=first_line(error), lost=True)
        return Finished(key, packed[0], self._unpacked(packed))

    def _unpacked(self, packed: Packed) -> Path:
        try:
            folder = Path(tempfile.mkdtemp(dir=self._scratch))
            for name, content in packed[1]:
                (folder / name).write_bytes(content)
        except OSError as error:
            raise unwritable(self._scratch, error) from error
        return folder

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return work.now()

    def stop(self) -> None:
        """Cancel what still runs, and leave the cluster."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()


def compute_on_node(job: Job, shipment: Shipment, run: Run, node: str, version: str | None) -> Packed:
    """`compute` with Ray's own way to fetch bytes."""
    import ray

    return compute(job, shipment, run, node, version, ray.get)


def connected(address: str) -> Any:
    """The module `ray`, connected to a cluster.

    Raises:
        UsageError: the address has another form.
        RuntimeUnavailableError: Ray isn't installed, or the cluster can't be reached.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and host and port.isdecimal()):
        raise UsageError(
            f"--ray {address} is no address", hint="Expected is HOST:PORT, as `ray start --head` prints it."
        )
    try:
        import ray
    except ImportError as error:
        raise RuntimeUnavailableError(f"ray can't be imported: {first_line(error)}", hint=INSTALL) from error
    unreachable = f"there is no Ray cluster at {address}"
    hint = "ray start --head --port=6379 starts one."
    try:
        with socket.create_connection((host, int(port)), timeout=REACH_SECONDS):
            pass
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, ray.exceptions.RayError, RuntimeError, ValueError) as error:
        raise RuntimeUnavailableError(f"{unreachable}: {first_line(error)}", hint=hint) from error
    return ray


def name_of(entry: dict[str, Any]) -> str:
    """Host and the beginning of the identifier: several nodes may be on one host."""
    return f"{entry['NodeManagerHostname']} {entry['NodeID'][:LETTERS]}"


def targets_of(resources: dict[str, float]) -> frozenset[str]:
    """The targets among a node's resources; ``cpu`` where there is none."""
    found = {target for name in resources if name != USUAL and (target := target_of(name))}
    return frozenset(found or {CPU})


def target_of(resource: str) -> str:
    """``jetson_orin`` -> "sm87"; empty for what is no target."""
    try:
        return canonical(resource)
    except UsageError:
        return ""


def last_line(error: BaseException) -> str:
    """Of a remote traceback, which ends with the error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
