"""The lab's own certificate authority, and a private key and certificate for each node.

Made once per lab and kept in its folder, 0600: what `up` writes on a node again is the same.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ovnlab.atomic_write import write_whole
from ovnlab.ovsdb.endpoints import AUTHORITY, CERTIFICATE, KEY
from ovnlab.topology.resolved import Node, Topology

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

VALID_DAYS = 3650
PLACEHOLDERS = dict.fromkeys((KEY, CERTIFICATE, AUTHORITY), "(made by `ovnlab up`, and kept in the lab's folder)")


def of(folder: Path, topology: Topology) -> Mapping[str, Mapping[str, str]]:
    """Return the texts of key, certificate and CA for each node with an address, by their paths on the node."""
    folder.mkdir(mode=0o700, exist_ok=True)
    authority = _Authority(folder, topology.name)
    return {
        node.name: {
            KEY: authority.key_of(node).read_text(),
            CERTIFICATE: authority.certificate_of(node).read_text(),
            AUTHORITY: authority.certificate.read_text(),
        }
        for node in topology.nodes
        if node.ip
    }


class _Authority:
    """A CA in a folder, made where it is not there."""

    def __init__(self, folder: Path, lab: str) -> None:
        self.folder = folder
        self.lab = lab
        self.certificate = folder / "ca.pem"
        self.key = folder / "ca-key.pem"
        if not self.certificate.exists():
            key = _new_key()
            name = _name(f"ovnlab {lab} CA")
            write_whole(self.key, _key_text(key))
            write_whole(self.certificate, _sign(name, key.public_key(), name, key, node=None))

    def key_of(self, node: Node) -> Path:
        path = self.folder / f"{node.name}-key.pem"
        if not path.exists():
            write_whole(path, _key_text(_new_key()))
        return path

    def certificate_of(self, node: Node) -> Path:
        """Return a certificate for the node's name and address."""
        from cryptography import x509  # noqa: PLC0415  needed by labs with TLS alone
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

        path = self.folder / f"{node.name}-{node.ip.replace(':', '_')}-cert.pem"
        if not path.exists():
            issuer = x509.load_pem_x509_certificate(self.certificate.read_bytes()).subject
            signing = serialization.load_pem_private_key(self.key.read_bytes(), None)
            key = serialization.load_pem_private_key(self.key_of(node).read_bytes(), None)
            text = _sign(_name(node.name), key.public_key(), issuer, signing, node=node)  # type: ignore[arg-type]
            write_whole(path, text)
        return path


def _new_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    return ec.generate_private_key(ec.SECP256R1())


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _name(common: str) -> x509.Name:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _sign(
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    signing: ec.EllipticCurvePrivateKey,
    *,
    node: Node | None,
) -> str:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415

    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=node is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .add_extension(_usage(authority=node is None), critical=True)
    )
    if node is not None:
        names = [x509.DNSName(node.name), x509.IPAddress(ipaddress.ip_address(node.ip))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _usage(*, authority: bool) -> x509.KeyUsage:
    """Return a CA signs certificates, a node signs handshakes (RFC 5280, 4.2.1.3)."""
    from cryptography import x509  # noqa: PLC0415

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
