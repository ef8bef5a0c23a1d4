"""Guest images, the machines that run them, and the roads into them. Imports nothing else of this project.

Where to look:

- ``images``: recipes (TOML), ``build`` (mmdebstrap and what is done with its tar), ``store`` (the cache);
- ``spec`` and ``argv``: a machine as data, and QEMU's command line as a pure function of it;
- ``launch``: one start of QEMU; ``snapshot``: boot once and save; ``machine``: both, for the user;
- ``resident`` and ``ssh``: the two roads in; ``agent`` and ``agentlink``: system calls by name over either;
- ``console``: the serial log and its events, and a login there; ``qmp``: QEMU's control socket;
- ``processes``, ``locks``, ``files``, ``paths``: nothing is left behind, whatever ends the run;
- ``cli``, ``terminal``, ``doctor``, ``build_tools``: for people.
"""
