"""Measure parallel code with pytest-benchmark: proof before time, an interval on every speedup."""
