"""What we show of ourselves by TLS, in words, for whoever reads that the other side did not take it. *Cold.*"""

from __future__ import annotations

import ssl


class ShowingContext(ssl.SSLContext):
    """
    A context that can say what it shows.

    Attributes:
        shown: Whose certificate, who signed it and when it ends; empty where there is none to show.
    """

    shown: str = ""


def shown_by(context: ssl.SSLContext | None) -> str:
    """What a context shows, as far as it can say so."""
    return context.shown if isinstance(context, ShowingContext) else ""
