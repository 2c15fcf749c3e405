# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Certificates for the tests: an authority, and leaves of any kind, name and time."""

import datetime
import ipaddress
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp

DAY = datetime.timedelta(days=1)


def new_key(kind):
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def name_of(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def pem_key(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def alternative(host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class Pair:
    """A certificate with its key: .cert and .key are files, the chain is in .cert."""

    def __init__(self, folder, name, certificates, key):
        self.certificate = certificates[0]
        self.private_key = key
        self.cert = str(folder / f"{name}.pem")
        self.key = str(folder / f"{name}.key")
        Path(self.cert).write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM)
                                             for c in certificates))
        Path(self.key).write_bytes(pem_key(key))

    def flags(self):
        return "--tls-cert", self.cert, "--tls-key", self.key


class Authority:
    """A root and an intermediate that signs the leaves; .file is the root."""

    def __init__(self, folder, name="authority"):
        self.folder = Path(folder)
        self.name = name
        self.root_key, self.middle_key = new_key("ecdsa"), new_key("ecdsa")
        self.root = self._sign(name, name, self.root_key, self.root_key, authority=True)
        self.middle = self._sign(f"{name} 2", name, self.middle_key, self.root_key, authority=True)
        self.file = str(self.folder / f"{name}.pem")
        Path(self.file).write_bytes(self.root.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject, issuer, key, by, authority=False, hosts=(), begin=-2, end=60,
              is_responder=False):
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateBuilder().subject_name(name_of(subject))
                   .issuer_name(name_of(issuer)).public_key(key.public_key())
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now + begin * DAY).not_valid_after(now + end * DAY)
                   .add_extension(x509.BasicConstraints(authority, None), critical=True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                       by.public_key()), False))
        if authority:  # RFC 5280 4.2.1.3
            use = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(use, critical=True)
        if is_responder:
            use = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING])
            builder = builder.add_extension(use, critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([alternative(h) for h in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(by, hashes.SHA256())

    def pair(self, name, kind="ecdsa", hosts=("localhost",), begin=-2, end=60):
        """A leaf of the intermediate's, for names and addresses; begin and end are days from now."""
        key = new_key(kind)
        leaf = self._sign(name, f"{self.name} 2", key, self.middle_key, hosts=hosts, begin=begin,
                          end=end)
        return Pair(self.folder, name, [leaf, self.middle], key)

    def responder(self):
        """Who may answer for the intermediate (RFC 6960 4.2.2.2): certificate and key."""
        key = new_key("ecdsa")
        return self._sign(f"{self.name} responder", f"{self.name} 2", key, self.middle_key,
                          is_responder=True), key

    def ocsp(self, name, pair, begin=-1, end=5, revoked=False, signer=None, delegated=False):
        """A file with an OCSP response for a leaf; signer is another authority that gives it."""
        now = datetime.datetime.utcnow()
        status = ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=pair.certificate, issuer=self.middle, algorithm=hashes.SHA1(), cert_status=status,
            this_update=now + begin * DAY, next_update=now + end * DAY,
            revocation_time=now if revoked else None, revocation_reason=None)
        signer = signer or self
        by, key = signer.responder() if delegated else (signer.middle, signer.middle_key)
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, by)
        if delegated:
            builder = builder.certificates([by])
        file = self.folder / f"{name}.ocsp"
        file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(
            serialization.Encoding.DER))
        return str(file)


class Store:
    """What the tests of one run share."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="tidewire-certs-")
        self.folder = Path(self._folder.name)
        self.authority = Authority(self.folder)
        self.ecdsa = self.authority.pair("ecdsa")
        self.rsa = self.authority.pair("rsa", "rsa")

    def close(self):
        self._folder.cleanup()
