"""Which job runs where, and when: needs first, timed jobs alone on their machine, lost nodes' jobs elsewhere."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.records.report import ErrorRecord
from attn_export.exporter.records.sweep import Figures, Outcome
from attn_export.exporter.report.sweep.live import Watch
from attn_export.exporter.sweep.job import Backend, Finished, Inputs, Job, Node
from attn_export.exporter.sweep.store import Store

ATTEMPTS = 3  # of a job whose node was lost
# How long jobs wait for a node that offers their target, after the last of them was lost.
PATIENCE_SECONDS = 60.0
# How long a node gets nothing after it lost a job: a cluster may list it for a while after its end.
REST_SECONDS = 30.0
LOST_CODE = RuntimeUnavailableError.exit_code

Place = tuple[str, bool]  # target, timed


@dataclass
class _Load:
    """What runs on a node."""

    jobs: set[str] = field(default_factory=set)
    timed: bool = False

    def takes(self, node: Node, *, timed: bool) -> bool:
        return not self.timed and (not self.jobs if timed else len(self.jobs) < node.slots)


class Scheduler:
    """Runs jobs, by key and with all that they need, until each has an outcome; ``kept`` are there already."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        kept: Mapping[str, Outcome],
        *,
        backend: Backend,
        keeper: Store,
        inputs: Callable[[Job], Inputs],
        watch: Watch,
    ) -> None:
        self._jobs, self._backend, self._keeper, self._inputs, self._watch = jobs, backend, keeper, inputs, watch
        self.outcomes = {key: outcome for key, outcome in kept.items() if key in jobs}
        self._missing: dict[str, set[str]] = {}
        self._dependents: dict[str, list[str]] = {}
        self._ready: dict[Place, deque[str]] = {}
        self._running: dict[str, Node] = {}
        self._loads: dict[str, _Load] = {}
        self._attempts: dict[str, int] = {}
        self._resting: dict[str, float] = {}  # until when, by a node's name
        self._stuck_since: float | None = None
        self._prepare()

    def _prepare(self) -> None:
        todo = [job for key, job in self._jobs.items() if key not in self.outcomes]
        for job in todo:
            missing = {need for need in job.needs.values() if need not in self.outcomes}
            self._missing[job.key] = missing
            for need in missing:
                self._dependents.setdefault(need, []).append(job.key)
        for job in todo:
            if not self._missing[job.key]:
                self._release(job)

    def run(self) -> dict[str, Outcome]:
        """All outcomes by key, the kept ones included."""
        self._watch.begin(len(self._jobs), len(self.outcomes))
        while len(self.outcomes) < len(self._jobs):
            nodes = self._backend.nodes()
            self._assign(nodes)
            self._give_up()
            for finished in self._backend.wait():
                self._finish(finished)
        return self.outcomes

    def _release(self, job: Job) -> None:
        """Queue a job whose needs are done; where one of them failed, so does the job."""
        failed = [need for key in job.needs.values() if (need := self.outcomes[key]).error is not None]
        if failed and (error := failed[0].error):
            self._settle(failure_of(job, error.message, error.hint, error.exit_code))
            return
        self._ready.setdefault((job.target, job.timed), deque()).append(job.key)

    def _assign(self, nodes: Sequence[Node]) -> None:
        """Start ready jobs wherever there is room; those that aren't timed first, since timed ones wait for them."""
        now = self._backend.now()
        places = sorted(self._ready, key=lambda place: place[1])
        for node in nodes if places else ():
            load = self._loads.setdefault(node.name, _Load())
            if now < self._resting.get(node.name, now) or not load.takes(node, timed=False):
                continue
            for target, timed in places:
                queue = self._ready[target, timed]
                while queue and target in node.targets and load.takes(node, timed=timed):
                    self._start(self._jobs[queue.popleft()], node, load)
        self._ready = {place: queue for place, queue in self._ready.items() if queue}

    def _start(self, job: Job, node: Node, load: _Load) -> None:
        load.jobs.add(job.key)
        load.timed = job.timed
        self._running[job.key] = node
        self._watch.started(job.name, node.name)
        self._backend.submit(job, node, self._inputs(job))

    def _finish(self, finished: Finished) -> None:
        job, node = self._jobs[finished.key], self._running.pop(finished.key)
        load = self._loads[node.name]
        load.jobs.discard(job.key)
        load.timed = load.timed and bool(load.jobs)
        if finished.outcome is not None:
            self._settle(self._keeper.publish(finished.outcome, finished.folder))
            return
        tries = self._attempts[job.key] = self._attempts.get(job.key, 0) + 1
        if finished.lost:
            self._resting[node.name] = self._backend.now() + REST_SECONDS
        if finished.lost and tries < ATTEMPTS:
            self._watch.lost(job.name, node.name)
            self._ready.setdefault((job.target, job.timed), deque()).append(job.key)
            return
        times = f" {tries} times" if finished.lost else ""
        self._settle(failure_of(job, f"{node.name}: {finished.died}{times}", "", LOST_CODE))

    def _settle(self, outcome: Outcome) -> None:
        self.outcomes[outcome.key] = outcome
        self._watch.finished(outcome)
        for key in self._dependents.pop(outcome.key, ()):
            self._missing[key].discard(outcome.key)
            if not self._missing[key]:
                self._release(self._jobs[key])

    def _give_up(self) -> None:
        """Fail the jobs whose target nobody has offered for a while, once nothing else is left to do."""
        if self._running or not self._ready:
            self._stuck_since = None
            return
        now = self._backend.now()
        self._stuck_since = now if self._stuck_since is None else self._stuck_since
        if now - self._stuck_since < PATIENCE_SECONDS:
            return
        for target, timed in list(self._ready):
            for key in self._ready.pop((target, timed)):
                message = f"no node offers {target} any more"
                self._settle(failure_of(self._jobs[key], message, "Start one; the same command continues.", LOST_CODE))


def failure_of(job: Job, message: str, hint: str, exit_code: int) -> Outcome:
    """The outcome of a job that wasn't done. It isn't kept, so that the same command tries again."""
    return Outcome(key=job.key, name=job.name, figures=Figures(), error=ErrorRecord(message, hint, exit_code))
