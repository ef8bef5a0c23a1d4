"""How frames reach a session: the server's only I/O besides its stores."""
