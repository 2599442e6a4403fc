"""A device at a port behind TLS: who reads along learns nothing, and another certificate is refused."""

import contextlib
import shutil
import socket
import subprocess
import threading

import pytest
from support.served import TOKEN, listening

from dynnas.errors import TargetError
from dynnas.latency.remote.client import Device
from dynnas.latency.remote.tls import server_context
from dynnas.settings.settings import ADDRESS, TargetSettings

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificates")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Files of a certificate and key for 127.0.0.1, and of another one."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("device", "other"):
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        command += f" -keyout {name}.key -out {name}.pem -subj /CN=device -addext subjectAltName=IP:127.0.0.1"
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def device(certificates, tmp_path):
    context = server_context(certificates / "device.pem", certificates / "device.key")
    with listening(tmp_path, tls=context) as (server, lines):
        yield server.address[1], lines


def asked(port, token=TOKEN, host="127.0.0.1"):
    client = Device(f"tcp+tls://{host}:{port}", token.encode(), backoff=())
    try:
        return client.offers()
    finally:
        client.close()


def test_a_trusted_device_answers(device, certificates, monkeypatch):
    monkeypatch.setenv("DYNNAS_CERTIFICATE", str(certificates / "device.pem"))
    offered, _ = asked(device[0])
    assert "onnxruntime" in offered
    with pytest.raises(TargetError, match="the device has another token"):
        asked(device[0], token="another-token-0123456789")


def test_a_certificate_that_is_not_trusted_is_refused(device, certificates, monkeypatch):
    monkeypatch.delenv("DYNNAS_CERTIFICATE", raising=False)
    refusal = r"not trusted here \(self-signed certificate\).*\$DYNNAS_CERTIFICATE"
    with pytest.raises(TargetError, match=refusal):
        asked(device[0])
    monkeypatch.setenv("DYNNAS_CERTIFICATE", str(certificates / "other.pem"))
    with pytest.raises(TargetError, match="shows a certificate that is not trusted here"):
        asked(device[0])
    monkeypatch.setenv("DYNNAS_CERTIFICATE", str(certificates / "device.pem"))
    with pytest.raises(TargetError, match=r"not trusted here \(Hostname mismatch"):
        asked(device[0], host="localhost")
    monkeypatch.setenv("DYNNAS_CERTIFICATE", str(certificates / "device.key"))
    with pytest.raises(TargetError, match="is no PEM file of certificates"):
        asked(device[0])


def test_a_device_without_tls_is_refused(certificates, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNNAS_CERTIFICATE", str(certificates / "device.pem"))
    with listening(tmp_path) as (server, _), pytest.raises(TargetError, match="cannot be reached"):
        asked(server.address[1])


def test_nothing_of_it_can_be_read_on_the_way(device, certificates, monkeypatch):
    monkeypatch.setenv("DYNNAS_CERTIFICATE", str(certificates / "device.pem"))
    seen = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on(source, drain):
        while part := source.recv(65536):
            seen.extend(part)
            drain.sendall(part)
        with contextlib.suppress(OSError):  # that end has hung up, too
            drain.shutdown(socket.SHUT_WR)

    def between():
        near, _ = listener.accept()
        far = socket.create_connection(("127.0.0.1", device[0]))
        back = threading.Thread(target=pass_on, args=(far, near))
        back.start()
        pass_on(near, far)
        back.join()
        near.close()
        far.close()

    middle = threading.Thread(target=between)
    middle.start()
    offered, _ = asked(listener.getsockname()[1])
    middle.join(20)
    listener.close()
    assert "onnxruntime" in offered
    assert len(seen) > 500
    assert b"offers" not in seen
    assert b"runtimes" not in seen
    assert b"dynnas" not in seen


def test_files_of_a_device_are_checked(certificates, tmp_path):
    with pytest.raises(TargetError, match=r"--certificate .*missing\.pem: it cannot be used"):
        server_context(tmp_path / "missing.pem")
    with pytest.raises(TargetError, match="its private key there or as --key"):
        server_context(certificates / "device.pem", certificates / "other.key")


def test_addresses():
    assert TargetSettings(device="tcp+tls://box:7411").remote
    assert not ADDRESS.matches("tls://box:7411")
    with pytest.raises(TargetError, match="found the port '99999'"):
        Device("tcp+tls://box:99999", b"")
