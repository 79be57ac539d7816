"""How near an embedder puts texts that have nothing to do with each other.

For some models that is a cosine of 0.1, for others of 0.7; scores begin there.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from server.search.embedder import Embedder

MOST: Final = 0.95  # an embedder that finds all texts alike tells nothing
# Each question has its answer in the passage beside it, and in no other.
SUBJECTS: Final = (
    (
        "How long is bread left to rise before it is baked?",
        "Knead the dough until it is smooth, cover the bowl with a cloth and let it rest for "
        "an hour in a warm place. When it has doubled in size, shape the loaf and bake it "
        "until the crust is dark and sounds hollow.",
    ),
    (
        "Which planet has the largest number of moons?",
        "Saturn is circled by more than a hundred moons. Most are small and irregular, but "
        "Titan is larger than Mercury and has an atmosphere of nitrogen, with lakes of "
        "methane near its poles.",
    ),
    (
        "What notice does a tenant have to give?",
        "Either party may end this lease by giving three months' notice in writing. The "
        "deposit is returned within six weeks of the keys being handed over, less the cost of "
        "any repairs.",
    ),
    (
        "Why does the database refuse new connections?",
        "Each client holds one connection of the pool. Once all of them are taken, further "
        "clients wait until the timeout and then fail with an error. Raise the limit, or "
        "close idle sessions sooner.",
    ),
    (
        "When was the old railway bridge destroyed?",
        "The first bridge across the river was built of oak in 1843 and carried a single "
        "track. A flood swept two of its piers away forty years later, and trains were sent "
        "by way of the southern line.",
    ),
    (
        "How is a sprained ankle treated?",
        "Rest the joint, cool it for twenty minutes at a time and keep the leg raised. See a "
        "doctor if you cannot put weight on the foot, or if the swelling has not gone down "
        "after some days.",
    ),
    (
        "What does the goalkeeper wear in the final?",
        "The visitors scored in the ninth minute and defended their lead until the break. "
        "After two substitutions the home side came back into the match, and a late penalty "
        "decided it.",
    ),
    (
        "How did sales develop in the third quarter?",
        "Revenue grew by four percent against the previous year, while margins fell as "
        "freight became more expensive. For the coming months the board expects orders to "
        "remain stable.",
    ),
)


async def cosine_of_unrelated(embedder: Embedder) -> float:
    """A cosine that few questions have with passages of other subjects. Raises EngineError."""
    questions = np.stack(await embedder.embed([each for each, _ in SUBJECTS], query=True))
    passages = np.stack(await embedder.embed([each for _, each in SUBJECTS], query=False))
    cosines = questions @ passages.T
    others = cosines[~np.eye(len(SUBJECTS), dtype=bool)]
    return min(MOST, float(others.mean() + others.std()))
