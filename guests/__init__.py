"""Guest images, the machines that run them, and how they are reached. Imports of this project only the virtio layouts.

- ``images``: recipes (TOML), ``build`` (mmdebstrap, and processing of its tar), ``store`` (the cache);
- ``machines``: QEMU, User-Mode Linux and v86, each a machine with a console, some with snapshots;
- ``access``: shells in a guest, over SSH, a console or the launcher of our own images;
- ``agent``: system calls by name over either;
- ``host``: processes, locks, files, paths and signals of this host: nothing is left behind, whatever ends the run;
- ``cache``: artefacts that are built once and checked before use;
- ``cli``, ``doctor``, ``build_tools``: for people.
"""
