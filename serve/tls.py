"""TLS between this machine's own programs and its gateway: one certificate, known beforehand."""

import re
import ssl
from pathlib import Path

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def trusting_only(certificate: Path) -> ssl.SSLContext:
    """A context for clients that accepts the first certificate of a PEM file and no other.

    The server proves that it has that certificate's key. By which name it was reached does not
    matter then, so that a certificate for a public name does on loopback as well.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no certificate.
    """
    found = _CERTIFICATE.search(certificate.read_text(encoding="ascii"))
    if found is None:
        raise ValueError(f"{certificate} holds no certificate in PEM")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not have signed itself
    context.load_verify_locations(cadata=found[0])
    return context
