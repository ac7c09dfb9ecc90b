"""Measure parallel code with pytest-benchmark: proof before time, and intervals on every speedup."""
