"""Circuit discovery: the attribution of every edge, and circuits made of edges."""
