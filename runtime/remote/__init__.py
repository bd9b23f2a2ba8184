"""Devices that are reached from here: a job goes out in a folder, a result comes back in it.

`job.py` writes and reads the folder, `runner.py` and `runner.mjs` are the programs that do it on
the other side, the other files are the ways there.
"""
