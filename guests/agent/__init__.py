"""System calls by name in a guest: `payload` is pushed there, `link` is the caller's side."""
