"""One module a verb; each has ``run(call) -> int``: parse, call the engine once, print."""
