"""`flowlens top --once` against a real HTTP server, and every way in which there may be no agent."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from flowlens import cli
from flowlens.cli.top import endpoint

from . import certificates, stand_in

ONCE = ["top", "--once", "--interval", "0.05"]


def _top(*arguments: str) -> int:
    return cli.main([*ONCE, *arguments])


def _table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_one_plain_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in.serving() as agent:
        assert _top("--url", agent.url) == 0
    header, *rows = _table(capsys.readouterr().out)
    assert header == [
        "WORKLOAD",
        "KIND",
        "CONN/s",
        "ACC/s",
        "FAIL/s",
        "OPEN",
        "p50",
        "p99",
        "RETR/s",
        "RST/s",
    ]
    assert [row[0] for row in rows] == ["shop/checkout", "0a1b2c3d4e5f", "cron.service", "nginx.service"]
    assert all(len(row) == len(header) for row in rows)
    assert agent.scrapes == 2


def test_rows_are_sorted_and_limited(capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in.serving() as agent:
        assert _top("--url", agent.url, "--sort", "resets", "--limit", "1") == 0
    _, *rows = _table(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["nginx.service"]


def test_json_has_units_in_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in.serving() as agent:
        assert _top("--url", agent.url, "--json", "--by", "pod", "--sort", "failures") == 0
    found = json.loads(capsys.readouterr().out)
    first = found["owners"][0]
    assert found["by"] == "pod"
    assert first["owner"] == "shop/checkout-1"
    assert first["labels"]["pod"] == "checkout-1"
    assert first["open_connections"] == 31
    assert first["failures_per_second"] * found["interval_seconds"] == pytest.approx(5, rel=0.05)
    assert first["handshake_p99_seconds"] == pytest.approx(0.0098, rel=0.1)
    assert found["owners"][-1]["handshake_p50_seconds"] is None


def test_json_without_once_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", "--json"]) == 2
    assert "--json goes with --once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "connect"], "did you mean connects?"),
        (["--by", "dst_prt"], "did you mean dst_port?"),
        (["--limit", "0"], "'0' is not a whole number above 0"),
        (["--interval", "0"], "above 0"),
    ],
)
def test_wrong_values_are_answered_with_the_right_ones(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _top(*arguments) == 2
    assert message in capsys.readouterr().err


def test_the_address_may_be_written_in_short_or_with_the_path(capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in.serving() as agent:
        assert _top("--url", f"127.0.0.1:{agent.port}") == 0
        assert _top("--url", f"{agent.url}/metrics") == 0
    assert "shop/checkout" in capsys.readouterr().out


def test_without_an_agent_it_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert _top("--url", f"http://127.0.0.1:{port}") == 1
    message = capsys.readouterr().err
    assert f"no agent answers at http://127.0.0.1:{port}" in message
    assert "start one with: sudo flowlens agent" in message
    assert "Traceback" not in message


def test_another_exporter_is_no_agent(capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in.serving("# TYPE node_load1 gauge\nnode_load1 0.3\n") as other:
        assert _top("--url", other.url) == 1
    assert "is not a flow-lens agent (no flow_lens_build_info in its answer)" in capsys.readouterr().err


def test_a_page_that_is_not_there_is_no_agent(capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in.serving("gone", status=404) as other:
        assert _top("--url", other.url) == 1
    assert "is not a flow-lens agent (HTTP status 404)" in capsys.readouterr().err


def test_an_agent_that_is_not_ready_is_not_called_a_stranger(capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in.serving("starting", status=503) as agent:
        assert _top("--url", agent.url) == 1
    assert "is the agent still starting?" in capsys.readouterr().err


def test_text_in_another_format_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in.serving('flow_lens_build_info 1\nebpf_tcp_connect_total{a="b" 1 2 3\n') as agent:
        assert _top("--url", agent.url) == 1
    assert "is not in Prometheus' format" in capsys.readouterr().err


def test_a_host_without_an_address_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert _top("--url", "http://nobody.invalid:2112") == 1
    assert "there is no host of that name" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://[::1", "http://x:port"])
def test_what_is_no_url_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _top("--url", url) == 1
    assert "URL" in capsys.readouterr().err


def test_an_agent_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(endpoint, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert _top("--url", f"http://127.0.0.1:{silent.getsockname()[1]}") == 1
    assert "does not answer within 0.2 s" in capsys.readouterr().err


def test_a_connection_that_breaks_off_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:

        def close_at_once() -> None:
            rude.accept()[0].close()

        thread = threading.Thread(target=close_at_once)
        thread.start()
        assert _top("--url", f"http://127.0.0.1:{rude.getsockname()[1]}") == 1
        thread.join()
    assert "broke the connection off" in capsys.readouterr().err


def test_a_certificate_nobody_vouches_for_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stand_in.serving(certificate=certificates.write(tmp_path)) as agent:
        assert _top("--url", f"https://127.0.0.1:{agent.port}") == 1
    message = capsys.readouterr().err
    assert "is not trusted (self-signed certificate)" in message
    assert "--ca FILE" in message


def test_a_certificate_can_be_vouched_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificate = certificates.write(tmp_path)
    with stand_in.serving(certificate=certificate) as agent:
        assert _top("--url", f"https://127.0.0.1:{agent.port}", "--ca", str(certificate[0])) == 0
    assert "shop/checkout" in capsys.readouterr().out


def test_any_certificate_is_taken_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in.serving(certificate=certificates.write(tmp_path)) as agent:
        assert _top("--url", f"https://127.0.0.1:{agent.port}", "--insecure") == 0
    assert "shop/checkout" in capsys.readouterr().out


def test_a_missing_ca_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert _top("--url", "https://127.0.0.1:1", "--ca", "no.pem") == 1
    assert "--ca no.pem: no such file" in capsys.readouterr().err


def test_an_agent_without_tls_asked_with_tls_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with stand_in.serving() as agent:
        assert _top("--url", f"https://127.0.0.1:{agent.port}") == 1
    assert f"does not speak TLS: use http://127.0.0.1:{agent.port}" in capsys.readouterr().err


def test_an_agent_with_tls_asked_without_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stand_in.serving(certificate=certificates.write(tmp_path)) as agent:
        assert _top("--url", f"http://127.0.0.1:{agent.port}") == 1
    assert f"if it serves TLS: --url https://127.0.0.1:{agent.port}" in capsys.readouterr().err


def test_live_needs_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top"]) == 1
    assert "use --once" in capsys.readouterr().err
