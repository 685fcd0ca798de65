"""Our side of the per-container monitor: start one, speak to it, read what it left.

The monitor itself is a C program (``sandbox/native/monitor.c``).
"""
