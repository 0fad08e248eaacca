"""A page to try searches on, look at collections and see where the time goes.

Off until a setting asks for it. What the page asks goes through the server's own gRPC methods, with
the token that was typed, so that access, limits and admission are those of every other caller.
"""

from __future__ import annotations

from colreduce_service.console.web import Console

__all__ = ["Console"]
