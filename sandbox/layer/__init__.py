"""Tar in, tar out: one layer and the tree it stands for."""
