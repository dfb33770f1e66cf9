"""The environment that programs of ours get."""

from __future__ import annotations

import os
import sys

import pytest

from continuum import environment
from continuum.machine import Command, run_on_host


def test_what_other_tools_read_is_left_out_and_what_says_where_things_are_stays() -> None:
    stays = {
        "HOME": "/home/someone",
        "PATH": "/usr/bin",
        "TZ": "Asia/Kolkata",
        "https_proxy": "http://proxy:3128",
        "PIP_INDEX_URL": "https://index.example",
        "PIP_CERT": "/etc/ssl/site.pem",
        "GIT_SSL_CAINFO": "/etc/ssl/site.pem",
        "GOPROXY": "https://proxy.example",
        "XDG_STATE_HOME": "/var/lib/someone",
        "CONTINUUM_PYTHON": "/usr/bin/python3",
    }
    goes = {
        "CDPATH": "/x",
        "BASH_ENV": "x",
        "LD_PRELOAD": "/x.so",
        "LD_LIBRARY_PATH": "/x",
        "PYTHONHOME": "/x",
        "PYTHONSTARTUP": "/x",
        "PYTHONOPTIMIZE": "2",
        "PYTHON_GIL": "0",
        "PIP_TARGET": "/x",
        "PIP_PREFIX": "/x",
        "PIP_CONSTRAINT": "/x",
        "GIT_DIR": "/x",
        "KUBECONFIG": "/x",
        "ANSIBLE_CONFIG": "/x",
        "TAR_OPTIONS": "--gzip",
        "PERL5LIB": "/x",
        "MPLBACKEND": "module://nowhere",
        "XDG_CACHE_HOME": "relative",
        "XDG_CONFIG_HOME": "",
    }
    cleaned = environment.clean({**stays, **goes, "PIP_USER": "1", "PIP_REQUIRE_VIRTUALENV": "1"})
    assert cleaned == {**stays, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}


def test_programs_on_this_host_get_it_and_answer_in_english(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"LC_MESSAGES": "de_DE.UTF-8", "LANGUAGE": "de", "GIT_DIR": "/x"}.items():
        monkeypatch.setenv(name, value)
    program = "import os; print(sorted(os.environ.items()))"
    told = run_on_host(Command((sys.executable, "-c", program), environment={"OWN": "1"})).text
    assert "('LC_ALL', 'C.UTF-8')" in told
    assert "('OWN', '1')" in told
    assert not any(name in told for name in ("LC_MESSAGES", "LANGUAGE", "GIT_DIR"))


def test_machines_are_reached_past_proxies() -> None:
    variables = {"https_proxy": "http://proxy:3128", "NO_PROXY": "intranet.example, 192.0.2.7"}
    told = environment.past_proxies(variables, ["10.20.0.2", "10.20.0.0/24"])
    assert told["NO_PROXY"] == told["no_proxy"]
    assert told["NO_PROXY"] == (
        "intranet.example,192.0.2.7,10.20.0.2,10.20.0.0/24,localhost,127.0.0.1"
    )
    assert environment.past_proxies({"NO_PROXY": "x"}, ["10.20.0.2"]) == {}


def test_streams_that_are_closed_or_of_the_wrong_kind_become_the_null_device() -> None:
    process = os.fork()
    if process == 0:
        try:
            os.close(0)
            os.close(2)
            os.dup2(os.open("/dev/null", os.O_RDONLY), 1)
            environment.open_streams()
            os.write(1, b"x")
            os.write(2, b"x")
            os._exit(0 if os.read(0, 1) == b"" else 1)
        except BaseException:  # noqa: BLE001  nothing of pytest may go on in this process
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
