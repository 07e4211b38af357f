"""
The mutating admission webhook: Kubernetes asks it of each object that makes pods. *A process of its own.*

    review         an AdmissionReview in, its answer out: pure
    desk           around it: bodies within bounds, a deadline, what is written down
    counts         metrics
    authority      the webhook's own certificates: one authority for all replicas, in a Secret
    certificate    what is shown by TLS: given by files, or made by that authority
    registration   our entry with the API: whom it is to believe
    upkeep         what is looked after while it serves
    known          what others must know of it
    start          the process

Enters: reviews of the API server by HTTPS, certificates, what the API knows of our entry. Leaves: patches (RFC 6902),
which say what `sidecar inject` would do with a file, lines of JSON for each review, metrics. Nothing is written that a
review asks for: it has no side effects. Who may come in: `cli`, and `install` for what is `known`.
"""
