"""Every patched run as a whole row of a batch: the plain way, and a second opinion on the others."""
