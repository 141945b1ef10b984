"""How a tree is handed out: the embedded server, and what web servers and clients are told."""
