"""The engine: one store, its containers, and everything the programs do with them."""
