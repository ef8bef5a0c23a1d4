"""The Debian packages of the workloads that run real programs: one list, so that they share one guest image."""

BUILD = (
    "bc",
    "bison",
    "cpio",
    "fio",
    "flex",
    "gcc",
    "git",
    "libc6-dev",
    "libelf-dev",
    "libssl-dev",
    "make",
    "sqlite3",
    "xz-utils",
)
"""Compiler and tools of a kernel build, git, sqlite, fio. tar and python3 are in every image."""
