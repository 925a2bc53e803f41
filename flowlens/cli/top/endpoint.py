"""Scraping an agent, with errors that say what is wrong with the address, the agent or the certificate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import urllib3
from urllib3 import exceptions

from flowlens.cli import failure
from flowlens.cli.top import scrape

TIMEOUT_SECONDS = 5.0
_IDENTIFYING = "flow_lens_build_info"
_START = "start one with: sudo flowlens agent (or name another with --url)"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An agent's address. Safe to use from one thread at a time."""

    url: str
    pool: urllib3.PoolManager

    @classmethod
    def of(cls, text: str, ca: str | None, *, insecure: bool) -> Endpoint:
        """From what people type: `node1:2112`, `http://node1:2112/`, `https://node1:2112/metrics`."""
        url = text if "://" in text else f"http://{text}"
        url = url.rstrip("/").removesuffix("/metrics")
        try:
            parsed = urllib3.util.parse_url(url)
        except exceptions.LocationParseError as error:
            raise failure.CommandFailedError(f"flowlens top: {text!r} is no URL ({error})") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise failure.CommandFailedError(f"flowlens top: {text!r} is no http:// or https:// URL")
        if ca and not Path(ca).is_file():
            raise failure.CommandFailedError(f"flowlens top: --ca {ca}: no such file")
        if insecure:
            urllib3.disable_warnings(exceptions.InsecureRequestWarning)
        return cls(
            url, urllib3.PoolManager(cert_reqs="CERT_NONE" if insecure else "CERT_REQUIRED", ca_certs=ca)
        )

    def scrape(self) -> scrape.Scrape:
        """One reading of /metrics; raises failure.CommandFailedError."""
        try:
            answer = self.pool.request("GET", f"{self.url}/metrics", timeout=TIMEOUT_SECONDS, retries=False)
        except exceptions.HTTPError as error:
            raise failure.CommandFailedError(f"flowlens top: {self._explained(error)}") from error
        taken_at = time.monotonic()
        text = answer.data.decode("utf-8", "replace")
        if answer.status == 200 and _IDENTIFYING in text:
            try:
                return scrape.parse(text, taken_at)
            except ValueError as error:
                raise failure.CommandFailedError(
                    f"flowlens top: {self.url}/metrics is not in Prometheus' format: {error}"
                ) from error
        raise failure.CommandFailedError(f"flowlens top: {self._stranger(answer.status)}")

    def _stranger(self, status: int) -> str:
        what = f"HTTP status {status}" if status != 200 else f"no {_IDENTIFYING} in its answer"
        if status in (502, 503, 504):
            return f"{self.url} does not serve metrics now ({what}): is the agent still starting?"
        return f"{self.url} is not a flow-lens agent ({what}): {_START}"

    def _explained(self, error: Exception) -> str:
        match error:
            case exceptions.SSLError():
                return self._tls(str(error))
            case exceptions.NameResolutionError():
                return f"{self.url}: there is no host of that name: see --url"
            case exceptions.NewConnectionError():
                return f"no agent answers at {self.url} (connection refused or unreachable): {_START}"
            case exceptions.TimeoutError():
                return f"{self.url} does not answer within {TIMEOUT_SECONDS:g} s: see the agent's log"
            case exceptions.ProtocolError():
                hint = (
                    "" if self.url.startswith("https") else f"; if it serves TLS: --url https{self.url[4:]}"
                )
                return f"{self.url} broke the connection off: is it an agent?{hint}"
            case _:
                return f"{self.url}: {error}"

    def _tls(self, words: str) -> str:
        if "WRONG_VERSION_NUMBER" in words or "record layer" in words.lower():
            return f"{self.url} does not speak TLS: use http{self.url.removeprefix('https')}"
        if "CERTIFICATE_VERIFY_FAILED" in words:
            reason = words.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
            return (
                f"the certificate of {self.url} is not trusted ({reason}): "
                "name the one that vouches for it with --ca FILE, or accept it with --insecure"
            )
        return f"TLS with {self.url} failed: {words}"
