"""Training, encoding and reducing for `benchmarks.quality.trained`, on a CPU or an accelerator.

The training loop is written out here, and not left to sentence-transformers' trainer, so that it
runs where no ``datasets`` is installed and so that nothing but the objective differs between two
models: the same batches in the same order, the same optimiser, the same number of steps. The loss
and the modules are the ones that ``colreduce train`` uses.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.multi_vector_encoder.losses import (
    MultiVectorMultipleNegativesRankingLoss,
)
from sentence_transformers.multi_vector_encoder.scoring import mean_colbert_scores
from torch import Tensor

from benchmarks import common
from colreduce.embed.sentence_transformer import load_encoder
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce.reduce.merging import Groups, merge
from colreduce.train.examples import Example, batches
from colreduce.train.modules import GroupMeans

MOST = {"query": 64, "document": 256}  # tokens of a text that are read
SCALE = 20.0  # one over the temperature of scores that lie between -1 and 1
WARM_UP = 0.1  # share of the steps over which the learning rate rises
TOKENS_AT_A_TIME = {"cpu": 1 << 13, "cuda": 1 << 17}
DOCUMENTS_AT_A_TIME = 1024  # whose groups are merged in step


@dataclass(frozen=True)
class Setting:
    """What all models of a run share."""

    device: str
    encoder: str
    batch: int
    rate: float
    seed: int
    say: Callable[[str], None]


def fresh(setting: Setting, documents: str | None = None, queries: str | None = None) -> Any:
    """Return the encoder as it was published, with the means of CRISP where they are asked for."""
    model = load_encoder(setting.encoder, device=setting.device).model.float()
    if documents or queries:
        model.append(GroupMeans(documents, queries))
    if setting.device.startswith("cuda"):
        _mixed_precision(model[0])
    return model


def _mixed_precision(transformer: Any) -> None:
    """Let the transformer alone compute in bfloat16, and in training alone.

    Its vectors are float32 again: groups, scores and the loss are computed in that.
    """
    plain = transformer.forward

    @functools.wraps(plain)
    def forward(features: dict[str, Any], **given: Any) -> dict[str, Any]:
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=transformer.training):
            out = plain(features, **given)
        out["token_embeddings"] = out["token_embeddings"].float()
        return out

    transformer.forward = forward


def pack(folder: str) -> None:
    """Write the encoder in half precision, for a machine to which it has to be carried."""
    model = SentenceTransformer(common.encoder_folder(), device="cpu").half()
    model.save(folder, create_model_card=False)


class Texts:
    """Texts as numbers of tokens, each tokenised once for all models."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._known: dict[tuple[str, str], list[int]] = {}

    def learn(self, task: str, texts: Sequence[str]) -> None:
        """Tokenise what is not known yet, all of it at once."""
        new = list(dict.fromkeys(one for one in texts if (task, one) not in self._known))
        if new:
            made = self.tokenizer(new, truncation=True, max_length=MOST[task])["input_ids"]
            self._known |= {(task, one): ids for one, ids in zip(new, made, strict=True)}

    def length(self, task: str, text: str) -> int:
        """Return how many tokens a text has."""
        return len(self._known[task, text])

    def features(self, task: str, texts: Sequence[str], device: str) -> dict[str, Any]:
        """Return padded texts as the model reads them."""
        rows = [self._known[task, one] for one in texts]
        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.int64)
        mask = torch.zeros(len(rows), longest, dtype=torch.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        moved = {name: value.to(device, non_blocking=True) for name, value in given.items()}
        return {**moved, "modality": "text", "task": task}


def train(
    setting: Setting, model: Any, texts: Texts, examples: Sequence[Example], steps: int, name: str
) -> dict[str, Any]:
    """Train a model for a number of steps; return its losses and seconds."""
    loss_of = MultiVectorMultipleNegativesRankingLoss(
        model, scale=SCALE, similarity_fct=mean_colbert_scores
    )
    torch.manual_seed(setting.seed)
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=setting.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, functools.partial(_rate, steps=steps))
    drawn = batches(examples, setting.batch, seed=setting.seed)
    started, losses = time.perf_counter(), []
    for step in range(steps):
        some = [examples[number] for number in next(drawn)]
        columns = (("query", [e.query for e in some]), ("document", [e.positive for e in some]))
        loss = loss_of([texts.features(task, given, setting.device) for task, given in columns])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
        if step + 1 == steps or (step + 1) % max(steps // 5, 1) == 0:
            recent = torch.stack(losses[-max(steps // 5, 1) :]).mean()
            took = time.perf_counter() - started
            setting.say(f"{name}: step {step + 1} of {steps}, loss {recent:.3f}, {took:.1f} s")
    model.eval()
    seconds = time.perf_counter() - started
    kept = torch.stack(losses).tolist()[:: max(steps // 50, 1)]
    return {"steps": steps, "seconds": round(seconds, 2), "losses": [round(x, 4) for x in kept]}


def _rate(step: int, *, steps: int) -> float:
    """Return the share of the learning rate: it rises, then falls to nothing in a line."""
    rise = max(int(steps * WARM_UP), 1)
    return min((step + 1) / rise, (steps - step) / max(steps - rise, 1))


@torch.inference_mode()
def encode(setting: Setting, model: Any, texts: Texts, task: str, given: Sequence[str]) -> Ragged:
    """Return the vectors of all tokens of texts, on the device and before any reduction."""
    texts.learn(task, given)
    order = sorted(range(len(given)), key=lambda row: texts.length(task, given[row]))
    plain = [module for module in model if not isinstance(module, GroupMeans)]
    parts: list[Tensor] = [torch.empty(0)] * len(given)
    for rows in _together(order, [texts.length(task, one) for one in given], setting.device):
        out = texts.features(task, [given[row] for row in rows], setting.device)
        for module in plain:
            out = module(out)
        mask = out["attention_mask"].bool()
        vectors = out["token_embeddings"][mask].split(mask.sum(1).tolist())
        for row, one in zip(rows, vectors, strict=True):
            parts[row] = one
    lengths = torch.tensor([len(one) for one in parts], device=setting.device)
    return Ragged(torch.cat(parts), lengths)


def _together(order: Sequence[int], lengths: Sequence[int], device: str) -> Iterator[list[int]]:
    """Yield runs of texts whose padded tokens fit into memory."""
    room = TOKENS_AT_A_TIME[device.split(":")[0]]
    run: list[int] = []
    for row in order:  # shortest first, so the newest is the longest
        if run and (len(run) + 1) * lengths[row] > room:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


@torch.inference_mode()
def reduced(batch: Ragged, line: str | None) -> Ragged:
    """Return a batch reduced by one reducer; None leaves it."""
    if line is None:
        return batch
    (reducer,) = Recipe.parse(line).reducers
    if reducer.name == "ward" and batch.device.type != "cpu":
        return merge(batch, Groups(ward_in_step(batch, reducer.size)), renormalise=True).batch
    return reducer.reduce(batch, reducer.fit(batch, seed=0)).batch


def ward_in_step(batch: Ragged, size: int) -> Tensor:
    """Return the groups of Ward's method with all documents merging in step: [t] int64.

    The library merges document by document in native threads; an accelerator is quicker when each
    of its steps makes one merge in every document.
    """
    labels = torch.empty(len(batch.tokens), dtype=torch.int64, device=batch.device)
    offsets = batch.offsets
    for start in range(0, len(batch), DOCUMENTS_AT_A_TIME):
        stop = min(start + DOCUMENTS_AT_A_TIME, len(batch))
        padded, mask = batch.take(slice(start, stop)).pad()
        labels[offsets[start] : offsets[stop]] = _merge_in_step(padded, mask, size)[mask]
    return labels


def _merge_in_step(vectors: Tensor, mask: Tensor, size: int) -> Tensor:
    """Merge the two nearest groups of every document until ``size`` are left: [b, l] int64."""
    count, longest = mask.shape
    products = torch.bmm(vectors, vectors.transpose(1, 2))
    squares = products.diagonal(dim1=1, dim2=2)
    table = squares[:, :, None] + squares[:, None] - 2 * products
    table.masked_fill_(~(mask[:, :, None] & mask[:, None]), torch.inf)
    table.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    weights, groups = mask.float(), mask.sum(1)
    places = torch.arange(longest, device=mask.device)
    labels = places.repeat(count, 1)
    for _ in range(longest - size):
        going = torch.nonzero(groups > size).flatten()
        near = table.flatten(1).argmin(1)[going]
        pair = torch.stack([near // longest, near % longest], 1)
        one, other = pair.amin(1), pair.amax(1)
        first, second = weights[going, one][:, None], weights[going, other][:, None]
        height = table[going, one, other][:, None]
        far = (first + weights[going]) * table[going, one]
        far += (second + weights[going]) * table[going, other] - weights[going] * height
        far /= first + second + weights[going]
        gone = weights[going] == 0
        gone |= (places == one[:, None]) | (places == other[:, None])
        far.masked_fill_(gone, torch.inf)
        table[going, one] = table[going, :, one] = far
        table[going, other] = table[going, :, other] = torch.inf
        weights[going, one] += weights[going, other]
        weights[going, other] = 0
        labels[going] = torch.where(labels[going] == other[:, None], one[:, None], labels[going])
        groups[going] -= 1
    return labels
