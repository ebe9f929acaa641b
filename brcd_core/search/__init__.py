"""Search in a folder of images by Hamming distance: an index of their codes, and queries to it.

Command line: `python -m brcd_core.search index` and `query` (see --help), in __main__.py.
"""
