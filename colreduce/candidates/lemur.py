"""LEMUR: one learned vector per document, fitted so that its product with a query's is MaxSim."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.candidates.base import Documents, Query
from colreduce.candidates.single import SingleVector
from colreduce.errors import ShapeMismatch
from colreduce.maxsim import segment_max
from colreduce.method import State, parameter
from colreduce.ragged import Ragged

# Documents whose best similarities the features are trained to predict.
TARGETS = 1024

# Similarities of one step while documents are solved for: 256 MB.
STEP_FLOATS = 1 << 26


@dataclass(frozen=True, kw_only=True)
class Lemur(SingleVector):
    """Learn features of tokens whose sum over a query, times a document's weights, is MaxSim.

    A small network is fitted on the sample: from a token, predict its best similarity in each
    document. Then its last layer is thrown away, and every document, also a new one, gets weights
    by one least-squares solve against the same tokens. With ``epochs=0`` the features stay random.
    """

    name = "lemur"
    paper = "LEMUR: 2026, arXiv 2601.21853"
    when = "The corpus is known beforehand and encodings must be narrow; fit it on a large sample."
    width: int = parameter(1024, "features, which is the width of a document's vector", low=8)
    solve_tokens: int = parameter(8192, "tokens that documents are solved against", low=64)
    train_tokens: int = parameter(32_768, "tokens that the features are trained on", low=64)
    epochs: int = parameter(10, "passes over them; 0 leaves the features random", low=0)
    ridge: float = parameter(1e-3, "how much large weights are held back", above=0)
    on: str = parameter(
        "tokens",
        "which vectors a document is known by: all tokens or the reduced",
        choices=("tokens", "reduced"),
    )

    def fit_vectors(self, sample: Documents, *, seed: int) -> State:
        """Train the features; prepare the solve that all documents share."""
        generator = torch.Generator().manual_seed(seed)
        batch = self._of(sample)
        tokens = sample.tokens.tokens.float()
        drawn = torch.randperm(len(tokens), generator=generator).to(tokens.device)
        layer = self._untrained(batch.dim, generator)
        if self.epochs:
            chosen = torch.randperm(len(batch), generator=generator)[:TARGETS]
            targets = batch.take(chosen.to(batch.device))
            layer = self._trained(layer, tokens[drawn[: self.train_tokens]], targets, generator)
        shared = tokens[drawn.flip(0)[: self.solve_tokens]]
        features = _features(shared, layer).double()
        gram = features.T @ features
        size = gram.diagonal().mean() * self.ridge
        gram.diagonal().add_(size)
        solve = torch.linalg.solve(gram, features.T).float()  # [w, s]
        return {**layer, "shared": shared.cpu(), "solve": solve.cpu().contiguous()}

    def documents(self, documents: Documents, state: State) -> Iterator[Tensor]:
        """Solve for the documents' weights some at a time: [c, w]."""
        batch = self._of(documents)
        shared = state["shared"].to(batch.device)
        solve = state["solve"].to(batch.device)
        for block in self._checked(batch, state).blocks(max(STEP_FLOATS // len(shared), 1)):
            yield _best(shared, block).T @ solve.T

    def queries(self, queries: Sequence[Query], state: State) -> Tensor:
        """Add up the features of each query's tokens: [q, w]."""
        batch = self._checked(Ragged.pack([query.vectors for query in queries]), state)
        layer = {
            name: state[name].to(batch.device) for name in ("weight", "bias", "scale", "shift")
        }
        features = _features(batch.tokens.float(), layer)
        sums = features.new_zeros(len(batch), features.shape[1])
        return sums.index_add_(0, batch.item_of, features)

    def _of(self, documents: Documents) -> Ragged:
        return documents.tokens if self.on == "tokens" else documents.reduced

    def _checked(self, batch: Ragged, state: State) -> Ragged:
        dim = int(state["shared"].shape[1])
        if batch.dim != dim:
            raise ShapeMismatch(f"these vectors are {batch.dim} wide; the first stage takes {dim}")
        return batch

    def _untrained(self, dim: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the one layer of the network; the last feature is always 1."""
        width = self.width - 1
        return {
            "weight": torch.randn(dim, width, generator=generator),
            "bias": torch.randn(width, generator=generator) * 0.1,
            "scale": torch.ones(width),
            "shift": torch.zeros(width),
        }

    def _trained(
        self, layer: dict[str, Tensor], tokens: Tensor, targets: Ragged, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Fit the features, with a last layer that predicts standardised best similarities."""
        device = tokens.device
        with torch.no_grad():
            rows = max(STEP_FLOATS // len(targets.tokens), 1)
            wanted = torch.cat([_best(some, targets) for some in tokens.split(rows)])
            wanted = (wanted - wanted.mean(0)) / wanted.std(0).clamp_min(1e-6)
        learned = {name: value.to(device).requires_grad_() for name, value in layer.items()}
        last = torch.randn(self.width, len(targets), generator=generator) / self.width**0.5
        last = last.to(device).requires_grad_()
        every = [*learned.values(), last]
        optimiser = torch.optim.Adam(every, lr=3e-3)
        steps = self.epochs * math.ceil(len(tokens) / 512)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
        with torch.enable_grad():
            for _ in range(self.epochs):
                order = torch.randperm(len(tokens), generator=generator).to(device)
                for some in order.split(512):
                    predicted = _features(tokens[some], learned) @ last
                    loss = (predicted - wanted[some]).square().mean()
                    optimiser.zero_grad()
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(every, 0.5)
                    optimiser.step()
                    schedule.step()
        return {name: value.detach().cpu() for name, value in learned.items()}


def _features(tokens: Tensor, layer: dict[str, Tensor]) -> Tensor:
    """Return the features of tokens: [t, d] -> [t, w]; the last one is 1."""
    on = {name: value.to(tokens.device) for name, value in layer.items()}
    mixed = tokens @ on["weight"] + on["bias"]
    normed = torch.nn.functional.layer_norm(mixed, mixed.shape[1:], on["scale"], on["shift"])
    bent = torch.nn.functional.gelu(normed)
    return torch.cat([bent, bent.new_ones(len(bent), 1)], dim=1)


def _best(tokens: Tensor, documents: Ragged) -> Tensor:
    """Return each token's best similarity in each document: [t, n]."""
    return segment_max(tokens @ documents.tokens.float().T, documents.lengths)
