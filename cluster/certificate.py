"""The gateway's certificate and key, looked at before anything is started."""

import ssl

from cluster.errors import ConfigurationError
from cluster.settings import Settings


def check_certificate(settings: Settings) -> None:
    """Accept settings without TLS, or with a certificate and the key that belongs to it.

    Raises:
        ConfigurationError: a file cannot be read, or the two do not belong together.
    """
    certificate, key = settings.gateway_tls_certificate, settings.gateway_tls_key
    if certificate is None or key is None:
        return
    for variable, path in (("CERTIFICATE", certificate), ("KEY", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ConfigurationError(
                f"SWARM_GATEWAY_TLS_{variable} cannot be used: {path}: {error.strerror}."
            ) from error
    try:
        # Asked for a password, OpenSSL would wait for a terminal that is not there.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(
            f"SWARM_GATEWAY_TLS_KEY cannot be used: {key} is not the unencrypted key, in PEM, "
            f"of the certificate in {certificate}."
        ) from error
