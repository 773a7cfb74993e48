"""An engine without processes for the simulation: it does at random everything that workers do to the scheduler.

Its workers start late or not at all, die before or after a job began, stall, answer late, take time to stop, retire,
are replaced by spares, and are reported late. They know the true state of every slot, and the engine asserts that the
commands fit it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from itertools import accumulate
from typing import Final

from offload.core.death import Death
from offload.core.job import Job, SlotId
from offload.core.outcome import Outcome, Reason
from tests.unit.core.fake_worker import ANSWER_LATE_S, LOOP_BUSY_S, Run, State, Worker
from tests.unit.core.habits import BRAKE_FROM, BRAKE_PAUSE_S, DOUBTS, DRAGS_BY, Habits, Surroundings

POISON: Final = b"poison"  # the body of a job that kills every worker that begins it
DEATHS: Final = (Death(signal="SIGSEGV"), Death(exit_code=0), Death())

# How a run ends: indices into `FakeEngine._fates`.
CRASH, UNBEGUN_CRASH, EXCESS, STALL, ANSWER = range(5)


class FakeEngine:
    """`counts` what has happened, by name. `begun` is how often each job has begun, by number."""

    def __init__(self, simulation: Surroundings, habits: Habits, *, slots: int, jobs: int) -> None:
        self.counts: Counter[str] = Counter()
        self.begun = bytearray(jobs)
        self._simulation = simulation
        self._scheduler = simulation.scheduler
        self._chance = simulation.random.random
        self._about = simulation.random.expovariate
        self._habits = habits
        # Cumulative probabilities.
        self._fates = list(accumulate((habits.crashes, habits.crashes_unbegun, habits.memory_excesses, habits.stalls)))
        self._slots = slots
        self._workers: dict[SlotId, Worker] = {}
        self._at_work: set[Job] = set()
        self._next_slot = 0
        self._failures = 0
        self._storm_ends_at = 0.0
        self._is_calm = False

    def open(self) -> None:
        for _ in range(self._slots):
            self._add_slot()

    # Commands

    def start(self, slot: SlotId, job: Job) -> None:
        worker, now = self._workers[slot], self._simulation.now
        assert worker.state is State.UP, f"{job!r} was started on slot {slot}, which is {worker.state}"
        assert not worker.is_leaving, f"{job!r} was started on slot {slot}, which is leaving"
        assert job not in self._at_work, f"{job!r} was started on slot {slot}, and is elsewhere"
        if worker.runs:
            worker.check_room(job, self._scheduler.run_times)
            self.counts["prefetched"] += 1
        self._at_work.add(job)
        run = worker.give(job, now)
        self._draw_fate(worker, run, now)

    def withdraw(self, slot: SlotId, job: Job) -> bool:
        worker = self._workers[slot]
        assert worker.state is State.UP, f"{job!r} was withdrawn from slot {slot}, which is {worker.state}"
        assert len(worker.runs) > 1, f"{job!r} was withdrawn from slot {slot}, where it comes first"
        assert worker.runs[-1].job is job, f"{job!r} was withdrawn from slot {slot}, where it does not come last"
        was_taken = worker.take_back(job, self._simulation.now)
        self.counts["withdrawn" if was_taken else "too late to withdraw"] += 1
        if was_taken:
            self._at_work.discard(job)
        return was_taken

    def busy_since(self, slot: SlotId) -> float | None:
        return self._workers[slot].busy_since(self._simulation.now)

    def stop(self, slot: SlotId, job: Job, why: Reason) -> None:
        worker = self._workers[slot]
        assert worker.state is State.UP, f"{job!r} was stopped on slot {slot}, which is {worker.state}"
        assert worker.jobs() == [job], f"{job!r} was stopped on slot {slot}, which has {worker.jobs()!r}"
        assert job.outcome is not None
        assert job.outcome.reason is why
        worker.state = State.STOPPING
        self.counts["stopped"] += 1
        self._simulation.at(self._about(1.0) * self._habits.stop_s, self._kill, worker, worker.runs[0])

    # Runs

    def _draw_fate(self, worker: Worker, run: Run, now: float) -> None:
        if run.begins_at == math.inf:
            return
        habits = self._habits
        run_s = self._about(1.0) * habits.run_s[run.job.limits.index]
        if habits.drags and self._chance() < habits.drags:
            run_s *= DRAGS_BY
        ends_in_s = run.begins_at - now + run_s
        fate = CRASH if run.job.request.body == POISON else bisect_right(self._fates, self._chance())
        if fate == ANSWER:
            run.ends_at = run.begins_at + run_s
            late_s = LOOP_BUSY_S if self._chance() < habits.busy else ANSWER_LATE_S
            self._simulation.at(ends_in_s + self._chance() * late_s, self._receive, worker, run)
        elif fate == STALL:
            self.counts["stalled"] += 1  # it never answers, until the job's timeout
        elif fate == EXCESS:
            self._simulation.at(ends_in_s, self._exceed_memory, worker, run)
        else:
            if fate == UNBEGUN_CRASH:
                run.begins_at = math.inf
            self._simulation.at(ends_in_s, self._crash, worker, run)

    def _receive(self, worker: Worker, run: Run) -> None:
        """Reports an answer together with all before it that have arrived."""
        runs = []
        while run.is_held and run.ends_at <= self._simulation.now and not worker.is_garbled:
            runs.append(worker.answer())
        if runs:
            self._answer(worker, runs)

    def _answer(self, worker: Worker, runs: list[Run]) -> None:
        for run in runs:
            self._note_begun(run)
            self._at_work.discard(run.job)
        self.counts["reported with others"] += len(runs) - 1
        leaves = self._reports_leaving(worker)
        is_gone = worker.is_leaving and not worker.runs
        worker.state = State.DEAD if is_gone else State.UP
        reason = Reason.TASK_ERROR if self._chance() < self._habits.faults else Reason.SUCCEEDED
        ended = [(run.job.number, Outcome(reason=reason, run_s=run.ends_at - run.begins_at)) for run in runs]
        commands = self._scheduler.finished(
            worker.slot, worker.generation, ended, is_leaving=leaves, now=self._simulation.now
        )
        self._simulation.carry_out(commands, frozenset({reason, Reason.DEADLINE_EXCEEDED}))
        if is_gone:
            self._end(worker)
        elif self._chance() < self._habits.idle_deaths:
            self._simulation.at(self._chance() * 0.001, self._die_idle, worker, worker.given)

    def _reports_leaving(self, worker: Worker) -> bool:
        """Whether the worker reports that it leaves: always when it decides to, and sometimes again."""
        if worker.is_leaving:
            return self._chance() < 0.5
        worker.is_leaving = self._chance() < (0.5 if worker.state is State.STOPPING else self._habits.leaves)
        if worker.is_leaving and worker.runs:
            self.counts["leaving with jobs"] += 1
        return worker.is_leaving

    def _note_begun(self, run: Run) -> None:
        job = run.job
        self.begun[job.number] += 1
        assert self.begun[job.number] <= 1 + job.limits.retries, f"{job!r} has begun too often"

    def _exceed_memory(self, worker: Worker, run: Run) -> None:
        job = run.job
        if not run.is_held or worker.has_died or job.is_settled:
            return
        if not job.is_running:  # the answer of the job before it has not arrived; the watch looks again
            self._simulation.at(ANSWER_LATE_S, self._exceed_memory, worker, run)
            return
        commands = self._scheduler.exceed_memory(job, peak_bytes=2000, now=self._simulation.now)
        self._simulation.carry_out(commands, frozenset({Reason.MEMORY_LIMIT, Reason.DEADLINE_EXCEEDED}))
        again = self._scheduler.exceed_memory(job, peak_bytes=2000, now=self._simulation.now)
        assert not again, f"{job!r} ended twice for its memory"

    # Deaths

    def _crash(self, worker: Worker, run: Run) -> None:
        if run.is_held:
            self._die(worker)

    def _kill(self, worker: Worker, run: Run) -> None:
        """Kills the worker of a stopped job, unless the job has ended before."""
        if run.is_held:
            assert worker.jobs() == [run.job], f"{worker.jobs()!r} are hit by the stop of {run.job!r}"
            self._die(worker)

    def _die_idle(self, worker: Worker, given: int) -> None:
        if worker.given == given and worker.state is State.UP:
            self._die(worker)

    def _die(self, worker: Worker) -> None:
        if not worker.has_died:
            worker.die(self._simulation.now, is_garbled=self._chance() < self._habits.garbage)
            delay_s = self._about(1.0) * self._habits.death_reported_s
            self._simulation.at(delay_s, self._report, worker, worker.generation)

    def _report(self, worker: Worker, generation: int) -> None:
        """Reports the death, after all answers that are left in the channel, if it can be read."""
        if worker.generation != generation or worker.state is State.DEAD:
            return
        now = self._simulation.now
        while not worker.is_garbled and worker.runs and worker.runs[0].ends_at <= now:
            self._answer(worker, [worker.answer()])
        still_up = worker.generation == generation
        if still_up and worker.state is not State.DEAD:  # type: ignore[comparison-overlap]  # `_answer` changes it
            self._end(worker)

    def _end(self, worker: Worker) -> None:
        now, generation = self._simulation.now, worker.generation
        lost = worker.end(now)
        self._at_work.difference_update(run.job for run in lost)
        begun = sum(run.begins_at <= now for run in lost)
        for run in lost[:begun]:
            self._note_begun(run)
        self.counts["lost behind others"] += begun > 1
        self.counts["unbegun behind others"] += len(lost) > max(begun, 1)
        if begun < len(lost) and self._chance() < DOUBTS:
            begun += 1  # it may have begun
        death = DEATHS[int(self._chance() * len(DEATHS))]
        commands = self._scheduler.died(worker.slot, generation, death, begun=begun, now=now)
        self._simulation.carry_out(commands, frozenset({Reason.WORKER_CRASHED, Reason.DEADLINE_EXCEEDED}))
        if lost and self._chance() < self._habits.late_answers:
            delay_s = self._chance() * 3 * self._habits.start_s
            self._simulation.at(delay_s, self._answer_late, worker.slot, generation, lost[0].job)
        if self._chance() < self._habits.replacements:
            self._replace(worker)
        else:
            self._begin_start(worker, 0.0)

    def _answer_late(self, slot: SlotId, generation: int, job: Job) -> None:
        """Reports a late answer of a dead worker, and its death a second time."""
        self.counts["late answers"] += 1
        now, outcome = self._simulation.now, Outcome(reason=Reason.SUCCEEDED, run_s=0.0)
        late = self._scheduler.finished(slot, generation, [(job.number, outcome)], now=now)
        late += self._scheduler.died(slot, generation, DEATHS[0], begun=1, now=now)
        assert not late, f"{job!r}: a dead worker of generation {generation} was not ignored"
        self._simulation.carry_out(late, frozenset())

    # Start-ups

    def _add_slot(self) -> None:
        worker = Worker(SlotId(self._next_slot))
        self._next_slot += 1
        self._workers[worker.slot] = worker
        self._scheduler.slot_added(worker.slot)
        self._begin_start(worker, 0.0)

    def _replace(self, worker: Worker) -> None:
        """A spare with a new slot number replaces the dead worker."""
        del self._workers[worker.slot]
        self._scheduler.slot_removed(worker.slot)
        self._add_slot()

    def _begin_start(self, worker: Worker, pause_s: float) -> None:
        worker.start()
        start_s = pause_s + self._about(1.0) * self._habits.start_s
        self._simulation.at(start_s, self._end_start, worker)

    def _end_start(self, worker: Worker) -> None:
        is_storm = self._simulation.now < self._storm_ends_at
        if not self._is_calm and (is_storm or self._chance() < self._habits.failed_starts):
            self._fail_to_start(worker)
            return
        self._failures = 0
        worker.state = State.UP
        commands = self._scheduler.ready(worker.slot, worker.generation, self._simulation.now)
        self._simulation.carry_out(commands, frozenset({Reason.DEADLINE_EXCEEDED}))

    def _fail_to_start(self, worker: Worker) -> None:
        self._failures += 1
        now = self._simulation.now
        is_braked = self._failures >= BRAKE_FROM
        if is_braked:
            self._simulation.carry_out(self._scheduler.failing_to_start(now), frozenset({Reason.STARTING}))
        never_ready = self._scheduler.died(worker.slot, worker.generation, DEATHS[1], begun=0, now=now)
        assert not never_ready, "a worker that was never ready held jobs"
        self._begin_start(worker, BRAKE_PAUSE_S if is_braked else 0.0)

    def storm(self, length_s: float) -> None:
        """Kills all workers at once; none starts for a while."""
        if self._is_calm:
            return
        self._storm_ends_at = self._simulation.now + length_s
        for worker in list(self._workers.values()):
            if worker.state in (State.UP, State.STOPPING):
                self._die(worker)
                self._report(worker, worker.generation)

    def calm_down(self) -> None:
        """Lets all start-ups succeed from now on, so that the simulation ends."""
        self._is_calm = True

    # Checks

    def check_same_slots(self) -> None:
        """Asserts that the scheduler sees each slot in its true state, with its jobs."""
        slots = self._scheduler.slots.all
        assert slots.keys() == self._workers.keys()
        for slot_id, worker in self._workers.items():
            slot = slots[slot_id]
            assert slot.state is worker.seen_as, f"{slot!r} is {worker.seen_as}"
            assert slot.jobs() == worker.jobs(), f"{slot!r} has {worker.jobs()!r}"

    def check_all_back(self) -> None:
        """Asserts that there are as many slots as in the beginning, each with an idle worker."""
        assert len(self._workers) == self._slots
        assert not self._at_work
        assert all(worker.state is State.UP and not worker.runs for worker in self._workers.values())
        self.check_same_slots()
