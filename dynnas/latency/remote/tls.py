"""TLS for a device at a port, by Python's `ssl`: what is sent cannot be read or changed on the way.

The token is still what lets a client in; the certificate tells a client that it speaks to the device.
"""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

from dynnas.errors import TargetError

SCHEME = "tcp+tls"
TRUSTED = "DYNNAS_CERTIFICATE"
"""The environment variable with a file of certificates that clients trust, beside those of the system."""


def server_context(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """Return what a device answers by.

    Args:
        certificate: a PEM file with the certificate, and those between it and its root.
        key: a PEM file with the private key, if it is not in the same file.

    Raises:
        TargetError: a file is missing or no such file.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise TargetError(
            f"--certificate {certificate}: it cannot be used ({error}); a PEM file with a certificate is "
            "needed, and its private key there or as --key"
        ) from error
    return context


def join(connection: socket.socket, host: str, address: str) -> ssl.SSLSocket:
    """Return a client's connection after the device has shown a certificate for `host` that is trusted.

    Raises:
        TargetError: it is not trusted or for another host, or the file of trusted ones is no good.
        OSError: the device does not speak TLS.
    """
    context = ssl.create_default_context()
    if trusted := os.environ.get(TRUSTED):
        try:
            context.load_verify_locations(trusted)
        except (OSError, ssl.SSLError) as error:
            raise TargetError(f"${TRUSTED}: {trusted} is no PEM file of certificates ({error})") from error
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise TargetError(
            f"target: device {address} shows a certificate that is not trusted here "
            f"({error.verify_message}); name the file of the right one in ${TRUSTED}"
        ) from error
