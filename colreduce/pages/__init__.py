"""Pages for people: HTML that needs no network, no script and nothing beside it."""
