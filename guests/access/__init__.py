"""How a guest is reached: SSH, a shell on a console, the launcher of our own images."""
