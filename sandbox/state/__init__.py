"""One folder an object, one JSON document each: what was asked for and what became of it."""
