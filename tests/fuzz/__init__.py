"""Generators of damaged and hostile input: topologies, captures, bundles, and strings for what is rendered.

`python -m tests.fuzz KIND COUNT` runs one of them at length; tests/unit/test_fuzz.py runs a few of each.
"""
