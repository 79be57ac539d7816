"""Which models are in memory: on models that load when the test lets them, with a clock it sets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from server.engine.pool import TURN, ModelPool, State, Stay
from server.engine.protocol import EngineUnavailable
from server.engine.sizing import Demand, Fit, Footprint
from tests.support import ManualClock

MIB = 1 << 20
MEMORY = 100 * MIB


class Weight:
    """A model that takes so many MiB, a quarter more with all its cells."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.log: list[str] = []
        self.fits: list[Fit | None] = []
        self.problem: str | None = None
        self.trouble: str | None = None
        self.may_load = asyncio.Event()
        self.may_unload = asyncio.Event()
        self.may_load.set()
        self.may_unload.set()

    async def measure(self) -> Demand:
        if self.problem == "gone":
            raise EngineUnavailable("There is no file.")
        if self.problem == "locked":
            raise PermissionError("An adapter's folder cannot be read.")
        footprint = Footprint(weights=self.size * MIB, cell=0, slot=0, fixed=0)
        return Demand(Path(f"{self.size}.gguf"), footprint, 1, 512, 512, snapshots=0)

    async def load(self, fit: Fit | None) -> None:
        self.log.append("loads")
        self.fits.append(fit)
        await self.may_load.wait()
        if self.problem is not None:
            raise EngineUnavailable(self.problem)
        self.log.append("loaded")

    async def unload(self) -> None:
        self.log.append("unloads")
        await self.may_unload.wait()
        self.log.append("unloaded")


class Bench:
    """A pool of models by name, and what the test does with them."""

    def __init__(self, stays: dict[str, Stay], memory: int | None, **sizes: int) -> None:
        self.clock = ManualClock()
        self.models = {name: Weight(size) for name, size in sizes.items()}
        self.pool = ModelPool(self.models, stays, memory=memory, now=self.clock.monotonic)
        self.news = asyncio.Event()
        self.pool.listen(self.news.set)

    def state(self, name: str) -> State:
        return self.pool.standing(name).state

    async def until(self, name: str, state: State) -> None:
        """Wait for a model to come to a state."""
        await self.until_true(lambda: self.state(name) == state)

    async def until_true(self, fact: Callable[[], bool]) -> None:
        """Wait for the pool's news to make something true."""
        async with asyncio.timeout(5):
            while not fact():
                await self.news.wait()
                self.news.clear()

    async def use(self, *names: str) -> None:
        """Load models one after the other and be done with them at once, a second each."""
        for name in names:
            async with self.pool.using(name):
                pass
            self.clock.advance(1)


@contextlib.asynccontextmanager
async def bench(
    memory: int | None = MEMORY, stays: dict[str, Stay] | None = None, **sizes: int
) -> AsyncIterator[Bench]:
    """A pool that is closed in the end, and has then unloaded all it loaded."""
    made = Bench(stays or {}, memory, **sizes)
    try:
        yield made
    finally:
        for model in made.models.values():
            model.may_load.set()
            model.may_unload.set()
        await made.pool.close()
        for model in made.models.values():
            assert model.log.count("loaded") == model.log.count("unloaded")


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_model_that_many_want_is_loaded_once() -> None:
    """Runs and requests at the same time wait for the same load."""
    async with bench(a=10) as on:
        on.models["a"].may_load.clear()
        on.pool.want(["a"])
        on.pool.want(["a"])
        users = [asyncio.create_task(on.use("a")) for _ in range(3)]
        await settle()
        assert on.state("a") == "loading"
        on.models["a"].may_load.set()
        await asyncio.gather(*users)
        assert on.state("a") == "ready"
        assert on.models["a"].log == ["loads", "loaded"]


async def test_the_longest_idle_goes_when_there_is_no_room() -> None:
    """As few as are needed, and a model is loaded only when the other is really gone."""
    async with bench(a=40, b=40, c=40) as on:
        await on.use("a", "b", "a")
        on.models["b"].may_unload.clear()
        on.pool.want(["c"])
        await settle()
        assert [on.state(name) for name in "abc"] == ["ready", "unloaded", "loading"]
        assert on.models["c"].log == []
        on.models["b"].may_unload.set()
        await on.until("c", "ready")
        assert on.state("a") == "ready"


async def test_a_model_in_trouble_is_not_shown_as_ready() -> None:
    """It is being loaded, with the reason; its place and its work stay, and nobody loads it."""
    async with bench(a=10) as on:
        await on.use("a")
        on.models["a"].trouble = "Its worker died."
        standing = on.pool.standing("a")
        assert (standing.state, standing.reason) == ("loading", "Its worker died.")
        assert (standing.context, standing.bytes) == (512, 10 * MIB)
        assert on.pool.open("a")
        await on.use("a")
        on.models["a"].trouble = None
        assert (on.state("a"), on.pool.standing("a").reason) == ("ready", None)
        assert on.models["a"].log == ["loads", "loaded"]


async def test_two_that_wait_do_not_throw_out_more_than_is_needed() -> None:
    """The room that one makes serves the other, too."""
    async with bench(large=60, small=40, b=20, c=20) as on:
        await on.use("large", "small")
        on.models["large"].may_unload.clear()
        on.pool.want(["b", "c"])
        await settle()
        assert on.state("small") == "ready"
        on.models["large"].may_unload.set()
        await on.until_true(lambda: on.state("b") == on.state("c") == "ready")
        assert on.state("small") == "ready"


async def test_a_model_in_use_is_waited_for() -> None:
    """It is unloaded as soon as its last user is done, and not before."""
    async with bench(a=80, b=80) as on:
        async with on.pool.using("a"):
            on.pool.enter("a")
            on.pool.want(["b"])
            await settle()
            assert (on.state("a"), on.state("b")) == ("ready", "loading")
            on.pool.leave("a")
            await settle()
            assert on.state("a") == "ready"
        await on.until("b", "ready")
        assert on.models["a"].log[-1] == "unloaded"


async def test_a_model_with_queued_work_is_waited_for() -> None:
    """What waits for a loaded model keeps it there."""
    async with bench(a=80, b=80) as on:
        await on.use("a")
        on.pool.want(["a", "b"])
        await settle()
        assert on.state("a") == "ready"
        on.pool.want(["b"])
        await on.until("b", "ready")
        assert on.state("a") == "unloaded"


async def test_a_model_that_never_rests_lets_another_in_at_last() -> None:
    """After a while it begins no new work, and goes when what it has is done; then it waits."""
    async with bench(stays={"c": Stay(pin=True)}, a=50, b=60, c=10) as on:
        await on.use("c", "a")
        on.pool.enter("a")
        on.pool.want(["a", "b"])
        await settle()
        on.clock.advance(TURN - 1)
        on.pool.sweep()
        assert on.pool.open("a")
        on.clock.advance(1)
        on.pool.sweep()
        await settle()
        assert (on.state("a"), on.pool.open("a"), on.pool.open("c")) == ("ready", False, True)
        on.pool.leave("a")
        await on.until("b", "ready")
        assert on.pool.open("b")
        assert on.state("a") == "unloaded"
        on.pool.enter("b")
        on.pool.want(["a", "b"])
        await settle()
        assert (on.state("a"), on.pool.open("b")) == ("loading", True)
        on.clock.advance(TURN)
        on.pool.leave("b")
        await on.until("a", "ready")


async def test_a_large_model_is_not_overtaken_by_small_ones() -> None:
    """Places that become free for it are kept, though others that are wanted would fit."""
    async with bench(large=100, a=50, b=50) as on:
        await on.use("a", "b")
        on.pool.want(["a", "b", "large"])
        await settle()
        on.clock.advance(TURN)
        for _ in range(4):
            on.pool.sweep()
            await settle()
            on.pool.want(["a", "b", "large"])
            await settle()
        assert on.state("large") == "ready"
        on.clock.advance(TURN)
        on.pool.sweep()
        await settle()
        assert (on.state("a"), on.state("b")) == ("ready", "ready")


async def test_nothing_goes_while_it_is_held() -> None:
    """Whoever decides by what is ready can rely on it meanwhile."""
    async with bench(a=80, b=80) as on:
        await on.use("a")
        with on.pool.held():
            on.pool.want(["b"])
            on.clock.advance(1e6)
            on.pool.sweep()
            await settle()
            assert on.state("a") == "ready"
        await on.until("b", "ready")


async def test_a_pinned_model_never_goes() -> None:
    """Neither for another nor for having been idle; what can never fit beside it is told so."""
    async with bench(stays={"a": Stay(pin=True, idle_after=1)}, a=60, b=30, c=50) as on:
        await on.use("a")
        on.clock.advance(1e6)
        on.pool.sweep()
        await on.use("b")
        with pytest.raises(EngineUnavailable) as refusal:
            await on.use("c")
        assert str(refusal.value) == (
            "50.gguf needs 50 MiB of memory with a context of 512 tokens; 40 MiB are there for it."
        )
        assert on.state("a") == on.state("b") == "ready"


async def test_what_nobody_uses_is_unloaded_after_its_time() -> None:
    """Each after its own, counted from when its last user was done."""
    stays = {"a": Stay(idle_after=10), "b": Stay(idle_after=20)}
    async with bench(stays=stays, a=1, b=1, c=1) as on:
        await on.use("a", "b", "c")
        on.clock.advance(9)
        async with on.pool.using("a"):
            on.clock.advance(15)
            on.pool.sweep()
            assert [on.state(name) for name in "abc"] == ["ready", "unloaded", "ready"]
        on.clock.advance(9)
        on.pool.sweep()
        assert on.state("a") == "ready"
        on.clock.advance(1)
        on.pool.sweep()
        on.clock.advance(1e9)
        on.pool.sweep()
        await on.until_true(lambda: on.models["a"].log[-1] == "unloaded")
        assert on.state("c") == "ready"


async def test_a_model_that_is_leaving_is_loaded_again_when_it_is_gone() -> None:
    """Whoever wants it meanwhile waits."""
    async with bench(stays={"a": Stay(idle_after=10)}, a=1) as on:
        await on.use("a")
        on.models["a"].may_unload.clear()
        on.clock.advance(10)
        on.pool.sweep()
        user = asyncio.create_task(on.use("a"))
        await settle()
        assert on.models["a"].log == ["loads", "loaded", "unloads"]
        on.models["a"].may_unload.set()
        await user
        assert on.models["a"].log[-2:] == ["loads", "loaded"]


async def test_a_failed_load_is_reported_and_tried_again_for_the_next() -> None:
    """But not before everybody who waited was told."""
    async with bench(a=10) as on:
        on.models["a"].problem = "It is broken."
        on.pool.want(["a"])
        await on.until("a", "failed")
        assert on.pool.failures() == {"a": "It is broken."}
        assert on.pool.standing("a").reason == "It is broken."
        on.pool.want(["a"])
        await settle()
        assert on.models["a"].log == ["loads"]
        on.pool.forgive("a")
        on.models["a"].problem = None
        on.pool.want(["a"])
        await on.until("a", "ready")
        assert on.pool.standing("a").reason is None
        assert on.pool.failures() == {}


async def test_memory_of_a_failed_load_is_free_again() -> None:
    """What did not come takes nothing."""
    async with bench(a=80, b=80) as on:
        on.models["a"].problem = "It is broken."
        with pytest.raises(EngineUnavailable, match="It is broken"):
            await on.use("a")
        await on.use("b")


async def test_what_can_never_fit_throws_nothing_out() -> None:
    """It is refused before anything is unloaded for it."""
    async with bench(a=80, b=101) as on:
        await on.use("a")
        with pytest.raises(EngineUnavailable, match=r"101 MiB .* 100 MiB are there"):
            await on.use("b")
        assert on.state("a") == "ready"


async def test_what_nobody_wants_any_more_is_not_waited_for() -> None:
    """A model that waits for room gives up when the last who wanted it is gone."""
    async with bench(a=80, b=80) as on:
        async with on.pool.using("a"):
            on.pool.want(["b"])
            user = asyncio.create_task(on.use("b"))
            await settle()
            on.pool.want([])
            await settle()
            assert on.state("b") == "loading"
            user.cancel()
            await settle()
            assert on.state("b") == "unloaded"
        assert on.models["b"].log == []


async def test_preloading_throws_nothing_out() -> None:
    """It takes the room that there is."""
    async with bench(a=60, b=60, c=20) as on:
        await on.use("a")
        on.pool.preload(["b", "c"])
        await on.until("c", "ready")
        assert (on.state("a"), on.state("b")) == ("ready", "unloaded")


async def test_a_survey_finds_what_is_wrong_with_files() -> None:
    """What is well is not loaded, but known."""
    async with bench(a=10, b=10) as on:
        on.models["a"].problem = "gone"
        await on.pool.survey()
        assert on.pool.standing("a").reason == "There is no file."
        assert on.pool.failures() == {}
        assert (on.state("b"), on.pool.standing("b").context) == ("unloaded", 512)
        on.models["a"].problem = None
        await on.use("a")


async def test_a_survey_goes_on_whatever_is_wrong_with_a_file() -> None:
    """Also where nobody thought of it: the others are served."""
    async with bench(a=10, b=10) as on:
        on.models["a"].problem = "locked"
        await on.pool.survey()
        assert on.pool.standing("a").reason == "What the model takes could not be found out."
        assert (on.state("a"), on.state("b")) == ("failed", "unloaded")
        assert on.pool.standing("b").context == 512


async def test_without_a_known_memory_each_takes_what_it_likes() -> None:
    """Nothing is unloaded for another, and no fit is asked for."""
    async with bench(memory=None, a=10**6, b=10**6) as on:
        await on.use("a", "b")
        assert on.state("a") == on.state("b") == "ready"
        assert on.models["a"].fits == [None]


async def test_models_elsewhere_need_no_room() -> None:
    """What is not in the pool is ready, and using it loads nothing."""
    async with bench(a=1) as on:
        await on.use("upstream")
        assert on.state("upstream") == "ready"
        on.pool.want(["upstream"])


async def test_an_unforeseen_fault_is_a_failed_load(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waits hears of it; the details are in the log only."""
    async with bench(a=10) as on:

        async def broken(_: Fit | None) -> None:
            raise RuntimeError("a secret")

        on.models["a"].load = broken  # type: ignore[method-assign]
        with pytest.raises(EngineUnavailable, match="could not be loaded"):
            await on.use("a")
        assert "a secret" in caplog.text


async def test_closing_ends_loads_that_are_on_their_way() -> None:
    """Also those that wait for room; what is leaving may leave."""
    async with bench(a=60, b=60, c=30) as on:
        await on.use("a")
        on.models["c"].may_load.clear()
        on.models["a"].may_unload.clear()
        on.pool.want(["b", "c"])
        await settle()
        closing = asyncio.create_task(on.pool.close())
        await settle()
        on.models["a"].may_unload.set()
        await closing
        assert on.models["a"].log[-1] == "unloaded"
        assert on.models["c"].log == ["loads"]


async def test_new_users_wait_for_one_that_waited_for_its_turn() -> None:
    """However many come: those that are there end, the other model is loaded, then theirs again."""
    async with bench(a=50, b=60) as on:
        await on.use("a")
        on.pool.enter("a")
        other = asyncio.create_task(on.use("b"))
        await settle()
        on.clock.advance(TURN)
        on.pool.sweep()
        late = asyncio.create_task(on.use("a"))
        await settle()
        on.pool.leave("a")
        await on.until("b", "ready")
        await other
        await late
        assert on.models["a"].log.count("loaded") == 2


async def test_patience_ends() -> None:
    """Whoever waits for a place no longer than so long is told why there was none."""
    async with bench(a=80, b=80) as on:
        await on.use("a")
        on.pool.enter("a")
        with pytest.raises(EngineUnavailable) as refusal:
            async with on.pool.using("b", 0.01):
                pass
        assert str(refusal.value) == "Other models are using the memory that it needs."
        on.pool.leave("a")
