"""Attacks on `cones`, by what is attacked; `../attack.py` runs them."""
