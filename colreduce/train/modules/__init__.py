"""Modules of a multi-vector model that leave few vectors, and through which gradients pass."""

from __future__ import annotations

from colreduce.train.modules.attention import AttentionGroups
from colreduce.train.modules.base import LearnedModule
from colreduce.train.modules.gate import WordGate
from colreduce.train.modules.grouping import GroupMeans
from colreduce.train.modules.head import Head
from colreduce.train.modules.slots import Slots

__all__ = ["AttentionGroups", "GroupMeans", "Head", "LearnedModule", "Slots", "WordGate"]
