"""What the kernel's refusals mean, in words that one can act on. *Cold.*"""

from __future__ import annotations

import errno
from typing import Final

from sidecar.capture.netfilter.kernel import KernelError

_MISSING: Final = frozenset({errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT})


def has_no_nftables(error: KernelError) -> bool:
    """Whether it is the kernel that cannot, and not this process that may not."""
    return error.errno in _MISSING


def explained(error: KernelError) -> str:
    """One line."""
    if error.errno == errno.EPERM:
        return "not allowed: it needs the capability NET_ADMIN in this network namespace (root has it)"
    if has_no_nftables(error):
        return f"this kernel has no nftables that translates addresses (nf_tables, Linux 5.2 or later): {error}"
    return f"the kernel refuses: {error}"
