"""The conformance suite: its cases, what runs and judges them, and the systems under test.

`cases` holds the requirements; `run` runs and judges them; `vfs` and `raw` are what a case works with (a mounted share;
raw 9P frames and virtqueues); `sut` brings targets up; `evidence` writes records and reports.
"""
