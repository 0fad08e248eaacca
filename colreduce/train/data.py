"""Examples as the trainer takes them: a data set, and which of its rows make a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler

from colreduce.train.examples import Example, batches


def dataset(examples: Sequence[Example]) -> Any:
    """Return a column of queries, one of answers, and the wrong documents: all have as many."""
    columns = {
        "query": [one.query for one in examples],
        "positive": [one.positive for one in examples],
    }
    for number in range(len(examples[0].negatives)):
        columns[f"negative_{number + 1}"] = [one.negatives[number] for one in examples]
    return Dataset.from_dict(columns)


# More passes than any training makes: every pass of every seed has a seed of its own.
PASSES = 1_000_003


class FittingBatches(DefaultBatchSampler):  # type: ignore[misc]
    """Batches in which no document answers two queries: every pass in another order."""

    def __init__(self, examples: Sequence[Example], **given: Any) -> None:
        super().__init__(examples, **given)
        self.examples = examples

    def __len__(self) -> int:
        """Return the number of batches of a pass."""
        return max(len(self.examples) // self.batch_size, 1)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rows of each batch."""
        # A seed for each pass, so that a pass can be begun again without those before it.
        drawn = batches(self.examples, self.batch_size, seed=self.seed * PASSES + self.epoch)
        return islice(drawn, len(self))
