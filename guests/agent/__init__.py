"""System calls by name in a guest: `payload` is pushed there, packed by `packing`; `link` is the caller's side."""
