"""The cluster's one certificate authority, every certificate below it, and the kubeconfigs.

The keys are made anew by each `up` and go with `down`; none is ever used outside this
machine's namespaces, so a short-lived, simple authority is enough.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.testbed import places, plan

LIFE = datetime.timedelta(days=30)

# User and group names that Kubernetes' bootstrap roles are bound to.
CLIENTS = {
    "admin": ("testbed-admin", "system:masters"),
    "kube-apiserver-kubelet-client": ("kube-apiserver-kubelet-client", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
}


@dataclass(frozen=True, slots=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def certificate(name: str) -> Path:
    return places.pki() / f"{name}.crt"


def key(name: str) -> Path:
    return places.pki() / f"{name}.key"


def write(cluster: plan.Plan) -> None:
    """Write all keys, certificates and kubeconfigs of a cluster."""
    for folder in (places.pki(), places.kubeconfig().parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = _authority()
    _write_client_certificates(authority, cluster)
    _write_serving_certificates(authority, cluster)
    _write_service_account_keys()
    for user in (*CLIENTS, *(node.name for node in cluster.nodes)):
        write_kubeconfig(user)


def _authority() -> Authority:
    secret = ec.generate_private_key(ec.SECP256R1())
    name = _name("flow-lens testbed", "")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(secret.public_key())
    builder = (
        _builder(name, name, secret)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
    )
    signed = builder.sign(secret, hashes.SHA256())
    _store("ca", secret, signed)
    return Authority(secret, signed)


def _write_client_certificates(authority: Authority, cluster: plan.Plan) -> None:
    nodes = {node.name: (f"system:node:{node.name}", "system:nodes") for node in cluster.nodes}
    for file, (user, group) in {**CLIENTS, **nodes}.items():
        _issue(authority, file, _name(user, group), ())


def _write_serving_certificates(authority: Authority, cluster: plan.Plan) -> None:
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", plan.API_SERVICE)
    addresses = ("localhost", "127.0.0.1", "fd00:10:96::1", plan.Node(1).ip, plan.Node(1).ip6)
    _issue(authority, "kube-apiserver", _name("kube-apiserver", ""), (*service, *addresses))
    for node in cluster.nodes:
        names = (node.name, node.ip, node.ip6)
        _issue(authority, f"kubelet-{node.name}", _name(node.name, ""), names)


def _write_service_account_keys() -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    _write_key("service-accounts", secret)
    public = secret.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (places.pki() / "service-accounts.pub").write_bytes(public)


def _name(common: str, organization: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name, issuer: x509.Name, secret: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFE)
    )


def _issue(authority: Authority, file: str, subject: x509.Name, names: Sequence[str]) -> None:
    """Sign a certificate for both ends of TLS; `names` are the addresses it may serve."""
    secret = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = _builder(subject, authority.certificate.subject, secret)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    builder = builder.add_extension(issuer, critical=False)
    if names:
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    _store(file, secret, builder.sign(authority.key, hashes.SHA256()))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _store(file: str, secret: ec.EllipticCurvePrivateKey, signed: x509.Certificate) -> None:
    _write_key(file, secret)
    certificate(file).write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def _write_key(file: str, secret: ec.EllipticCurvePrivateKey) -> None:
    path = key(file)
    path.touch(mode=0o600)
    path.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def write_kubeconfig(user: str) -> None:
    """A kubeconfig (JSON is YAML) that names the files of one client certificate."""
    cluster = {"server": plan.API_SERVER, "certificate-authority": str(certificate("ca"))}
    identity = {"client-certificate": str(certificate(user)), "client-key": str(key(user))}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": places.NAME,
        "clusters": [{"name": places.NAME, "cluster": cluster}],
        "users": [{"name": user, "user": identity}],
        "contexts": [{"name": places.NAME, "context": {"cluster": places.NAME, "user": user}}],
    }
    path = places.kubeconfig(user)
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))
