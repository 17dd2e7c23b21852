"""The server of ``sor-ppa serve``: a page where people correct ranks, and an HTTP interface for programs."""
