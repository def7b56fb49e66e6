"""Faults that are put on a lab on purpose, and healed: killed daemons, cut links, partitions.

`control` puts faults on and heals them; each kind of fault is a module of `kinds`.
"""
