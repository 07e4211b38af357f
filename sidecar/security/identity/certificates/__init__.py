"""
Certificates, keys and bundles, read and judged by the standard library alone.

Enters: PEM, and the time. Leaves: `Credentials`, `KeyPair` and `Roots` that peers will accept, or a `Trouble` in a
sentence that one can act on; and how much of a certificate's life is left. Pure, but for the moments in which OpenSSL
reads a key from a file in memory. Who may come in: the rooms around, and `link`, which knows what it asks renewal for.
"""
