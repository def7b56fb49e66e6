"""Labs under test: what must hold in every lab, ready-made checks, and the pytest plugin.

`ovnlab.testing.checks` is for a person's own tests; `ovnlab.testing.plugin` brings labs as fixtures.
"""
