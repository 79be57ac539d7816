"""The best of what was found, in the order that a ranking model gives it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from server.catalog import ModelProblem, build_embedder, build_reranker
from server.engine.scripted import SCRIPTED_MODEL, ScriptedEngine
from server.search.index import Hit, Indexes
from server.search.reranker import LONGEST_TOKEN, Reranker
from tests.search.fakes import WordEmbedder, opened, put_lines
from tests.search.test_embedder import LETTERS, pool_of
from tests.support import live_server, settings_for
from tests.vector_stores.conftest import settled, store_of

FRUIT = "".join(f"apples number {number}\n" for number in range(9))
RANKER = replace(SCRIPTED_MODEL, embedding=1)


class Lover(ScriptedEngine):
    """Likes a text for the digit at its end, if the query has an `up`, else for a small one."""

    def __init__(self) -> None:
        super().__init__(info=RANKER, ranks=True)
        self.asked: list[tuple[str, int]] = []

    async def rank(self, query: str, texts: Sequence[str], *, project: str = "") -> list[float]:
        self.asked.append((query, len(texts)))
        digits = [int(text.strip()[-1]) for text in texts]
        return [(digit if "up" in query else 9 - digit) / 10 for digit in digits]


@pytest.fixture
def lover() -> Lover:
    """A model that ranks."""
    return Lover()


@pytest.fixture
async def reranked(tmp_path: Path, lover: Lover) -> AsyncIterator[Indexes]:
    """An index of nine lines, of which a search has the best six ranked."""
    reranker = Reranker("lover", lover, pool_of(lover=lover), window=512, pairs=6)
    async with opened(tmp_path, WordEmbedder(), reranker=reranker) as indexes:
        await put_lines(indexes, "vs", fruit=FRUIT)
        yield indexes


async def digits(indexes: Indexes, *queries: str, limit: int = 9, **more: object) -> list[int]:
    """What is found, by the digit at its end."""
    return [int(hit.text.strip()[-1]) for hit in await hits(indexes, *queries, limit=limit, **more)]


async def hits(indexes: Indexes, *queries: str, **more: object) -> list[Hit]:
    """What is found."""
    return await indexes.search(["vs"], queries, **more)  # type: ignore[arg-type]


async def test_the_best_are_ranked_again(reranked: Indexes, lover: Lover) -> None:
    """With the scores that they got; what was not read comes behind them, with no more."""
    found = await hits(reranked, "apples up", limit=9)
    order = [int(hit.text.strip()[-1]) for hit in found]
    assert sorted(order) == list(range(9))
    assert order[:6] == sorted(order[:6], reverse=True)
    scores = [hit.score for hit in found]
    assert scores[:6] == [digit / 10 for digit in order[:6]]
    assert scores == sorted(scores, reverse=True)
    assert lover.asked == [("apples up", 6)]


async def test_few_are_found_among_more(reranked: Indexes) -> None:
    """The best by the ranking of those that are read, however few are wanted."""
    most = (await digits(reranked, "apples up"))[0]
    assert await digits(reranked, "apples up", limit=1) == [most]


async def test_the_threshold_is_for_its_scores(reranked: Indexes) -> None:
    """And is looked at after it."""
    found = await hits(reranked, "apples up", limit=9, score_threshold=0.5)
    assert found
    assert all(hit.score >= 0.5 for hit in found)


async def test_several_queries_share_what_it_reads(reranked: Indexes, lover: Lover) -> None:
    """A text has the score of the query that it answers best."""
    found = await hits(reranked, "apples up", "apples down", "apples", limit=2)
    assert lover.asked == [("apples up", 2), ("apples down", 2), ("apples", 2)]
    for hit in found:
        digit = int(hit.text.strip()[-1])
        assert hit.score == max(digit, 9 - digit) / 10


async def test_who_wants_no_ranker_has_none(reranked: Indexes, lover: Lover) -> None:
    """Then vectors alone decide."""
    assert len(await digits(reranked, "apples up", ranker="none")) == 9
    assert await digits(reranked, "nothing of it", limit=9, allowed={"other"}) == []
    assert lover.asked == []


async def test_without_its_model_things_are_found_as_before(
    reranked: Indexes, lover: Lover, tmp_path: Path
) -> None:
    """One that cannot be loaded costs its order, and nothing else."""
    lover.unusable = "lover.gguf is gone."
    found = await hits(reranked, "apples number 3", limit=9)
    assert lover.asked == []
    async with opened(tmp_path / "plain", WordEmbedder()) as plain:
        await put_lines(plain, "vs", fruit=FRUIT)
        assert found == await hits(plain, "apples number 3", limit=9)


async def test_no_more_of_a_text_is_sent_than_can_be_read(lover: Lover) -> None:
    """A window of tokens has a bounded number of characters."""
    reranker = Reranker("lover", lover, pool_of(lover=lover), window=1, pairs=6)
    assert await reranker.scores(["up"], ["7" * LONGEST_TOKEN + "x"]) == [0.7]


async def test_which_model_ranks(tmp_path: Path) -> None:
    """None by default; else one that is there, and does that. It makes no vectors."""
    engines = {
        "writer": ScriptedEngine(),
        "ranker": Lover(),
        "letters": ScriptedEngine(info=LETTERS),
    }
    pool = pool_of(**engines)

    async def chosen(name: str) -> Reranker | None:
        return await build_reranker(engines, pool, settings_for(tmp_path, search__reranker=name))

    assert await build_reranker(engines, pool, settings_for(tmp_path)) is None
    assert await chosen("ranker") is not None
    with pytest.raises(ModelProblem, match="no file of a model 'other'"):
        await chosen("other")
    for name in ("writer", "letters"):
        with pytest.raises(ModelProblem, match=f"'{name}' is no model that ranks texts"):
            await chosen(name)
    embedding = settings_for(tmp_path, search__embedding_model="ranker")
    with pytest.raises(ModelProblem, match="'ranker' ranks texts; it makes no embeddings"):
        await build_embedder(engines, pool, embedding)


async def test_a_server_ranks_by_the_model_that_it_is_told(tmp_path: Path) -> None:
    """It is loaded by the first search, and can do nothing else: neither run nor make vectors."""
    lover = Lover()
    engines = {"tiny-assistant": ScriptedEngine(), "lover": lover}
    async with live_server(tmp_path, engines=engines, search__reranker="lover") as live:
        store = await store_of(live, *(f"apples number {number}" for number in range(4)))
        await settled(live, store)
        assert not lover.started
        async with live.http() as http:
            body = {"query": "apples up"}
            found = await http.post(f"/v1/vector_stores/{store}/search", json=body)
            scores = [each["score"] for each in found.json()["data"]]
            assert scores == [0.3, 0.2, 0.1, 0.0]
            wrong = "The model 'lover' ranks what is found in files, and no more."
            assistant = (await http.post("/v1/assistants", json={"model": "lover"})).json()
            hello = [{"role": "user", "content": "Hello!"}]
            for path, body in (
                ("/v1/embeddings", {"model": "lover", "input": "a"}),
                ("/v1/chat/completions", {"model": "lover", "messages": hello}),
                (
                    "/v1/threads/runs",
                    {"assistant_id": assistant["id"], "thread": {"messages": hello}},
                ),
            ):
                answer = await http.post(path, json=body)
                assert (answer.status_code, answer.json()["error"]["message"]) == (400, wrong)
