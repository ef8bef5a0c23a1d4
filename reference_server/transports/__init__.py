"""How frames reach a session: the only I/O of the server beside its stores."""
