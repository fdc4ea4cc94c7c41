"""What every page and every notebook output shares: the templates, the style, and how numbers are written. Needs no torch."""
