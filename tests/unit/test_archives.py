"""Package sources that are the distribution's own archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuum.errors import NotPossibleHere
from continuum.images import archives, sources

DEBIAN = "PRETTY_NAME=Debian\nID=debian\nVERSION_CODENAME=bookworm\n"
UBUNTU = "PRETTY_NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n"
MINT = (
    'PRETTY_NAME="Linux Mint 22"\nID=linuxmint\nID_LIKE="ubuntu debian"\n'
    "VERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n"
)
LMDE = (
    'PRETTY_NAME="LMDE 6"\nID=linuxmint\nID_LIKE=debian\n'
    "VERSION_CODENAME=faye\nDEBIAN_CODENAME=bookworm\n"
)
POP = (
    'PRETTY_NAME="Pop!_OS 22.04"\nID=pop\nID_LIKE="ubuntu debian"\n'
    "VERSION_CODENAME=jammy\nUBUNTU_CODENAME=jammy\n"
)
KALI = "PRETTY_NAME=Kali\nID=kali\nID_LIKE=debian\nVERSION_CODENAME=kali-rolling\n"
RASPBIAN = "PRETTY_NAME=Raspbian\nID=raspbian\nID_LIKE=debian\nVERSION_CODENAME=bookworm\n"

DEBIAN_KEYS = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
UBUNTU_KEYS = "[signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg]"
VENDORS = (
    "deb [signed-by=/usr/share/keyrings/hashicorp-archive-keyring.gpg] https://apt.releases.hashicorp.com {0} main\n"
    "deb [signed-by=/usr/share/keyrings/microsoft-archive-keyring.gpg] https://packages.microsoft.com/{1}/12/prod {0} main\n"
    "deb [signed-by=/usr/share/keyrings/ros-archive-keyring.gpg] http://packages.ros.org/ros2/{1} {0} main\n"
    "deb http://repository.example/unsigned/{1} {0} main\n"
    "deb [signed-by=/etc/apt/keyrings/debian-archive-keyring.gpg] https://fake.example/apt {0} main\n"
    "deb http://ppa.launchpad.net/some/ppa/ubuntu {0} main\n"
    "deb https://ppa.launchpadcontent.net/other/ppa/ubuntu {0} main\n"
    "deb https://download.docker.com/linux/{1} {0} stable\n"
)


def taken(
    folder: Path, release: str, lines: str, origins: dict[str, str] | None = None
) -> list[str]:
    """Entries that are taken of sources, where apt's lists hold these origins by their names."""
    (folder / "sources.list.d").mkdir(parents=True)
    (folder / "sources.list").write_text(lines)
    (folder / "os-release").write_text(release)
    lists = folder / "lists"
    lists.mkdir()
    for name, origin in (origins or {}).items():
        (lists / name).write_text(f"Hash: SHA256\n\nOrigin: {origin}\nLabel: x\nDate: now\n")
    found = sources.read(folder, folder / "os-release", lists)
    return [f"{entry.address} {entry.suite}" for entry in found.entries]


@pytest.mark.parametrize(
    ("release", "keys", "distribution", "suite"),
    [(DEBIAN, DEBIAN_KEYS, "debian", "bookworm"), (UBUNTU, UBUNTU_KEYS, "ubuntu", "noble")],
)
def test_vendors_and_persons_are_no_distribution(
    tmp_path: Path, release: str, keys: str, distribution: str, suite: str
) -> None:
    own = f"deb {keys} http://ftp.example.org/{distribution} {suite} main\n"
    lines = VENDORS.format(suite, distribution) + own
    assert taken(tmp_path, release, lines) == [f"http://ftp.example.org/{distribution} {suite}"]


def test_what_an_archive_says_of_itself_goes_before_keys_and_addresses(tmp_path: Path) -> None:
    lines = (
        "deb [signed-by=/etc/apt/keyrings/site.gpg] http://user:word@mirror.example:3142/a_b~c bookworm main\n"
        "deb http://archive.example/debian bookworm main\n"
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://other.example/debian bookworm main\n"
        "deb http://mirror.example:3142/debian-security bookworm-security main\n"
    )
    origins = {
        "mirror.example:3142_a%5fb%7ec_dists_bookworm_InRelease": "Debian",
        "archive.example_debian_dists_bookworm_Release": "Vendor",
        "other.example_debian_dists_bookworm_InRelease": "Vendor",
    }
    assert taken(tmp_path, DEBIAN, lines, origins) == [
        "http://user:word@mirror.example:3142/a_b~c bookworm",
        "http://mirror.example:3142/debian-security bookworm-security",
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "deb http://deb.debian.org/debian bookworm main",
            ["http://deb.debian.org/debian bookworm"],
        ),
        (
            "deb http://snapshot.debian.org/archive/debian/20250520T000000Z bookworm main",
            ["http://snapshot.debian.org/archive/debian/20250520T000000Z bookworm"],
        ),
        (
            "deb mirror+file:///etc/apt/mirrors/debian.list bookworm main",
            ["mirror+file:///etc/apt/mirrors/debian.list bookworm"],
        ),
        (
            (
                "deb http://site.example/debian bookworm main\n"
                "deb http://site.example/debian bookworm-updates main\n"
                "deb http://ppa.launchpad.net/x/y/debian bookworm main"
            ),
            ["http://site.example/debian bookworm", "http://site.example/debian bookworm-updates"],
        ),
    ],
)
def test_without_lists_the_distributions_own_addresses_tell(
    tmp_path: Path, lines: str, expected: list[str]
) -> None:
    assert taken(tmp_path, DEBIAN, lines) == expected


def test_where_nothing_tells_it_is_not_guessed(tmp_path: Path) -> None:
    lines = "deb http://a.example/debian bookworm main\ndeb http://b.example/debian bookworm main\n"
    with pytest.raises(NotPossibleHere, match=r"a\.example, b\.example") as caught:
        taken(tmp_path, DEBIAN, lines)
    assert caught.value.hint.startswith("apt-get update")


@pytest.mark.parametrize(
    ("release", "lines", "expected"),
    [
        (
            MINT,
            (
                "deb http://packages.linuxmint.com wilma main upstream import backport\n"
                "deb http://archive.ubuntu.com/ubuntu noble main universe\n"
                "deb http://security.ubuntu.com/ubuntu/ noble-security main universe\n"
            ),
            [
                "http://archive.ubuntu.com/ubuntu noble",
                "http://security.ubuntu.com/ubuntu/ noble-security",
            ],
        ),
        (
            LMDE,
            (
                "deb http://packages.linuxmint.com faye main\n"
                "deb https://deb.debian.org/debian bookworm main\n"
            ),
            ["https://deb.debian.org/debian bookworm"],
        ),
        (
            POP,
            "deb http://apt.pop-os.org/ubuntu jammy main\ndeb http://apt.pop-os.org/release jammy main\n",
            ["http://apt.pop-os.org/ubuntu jammy"],
        ),
        (
            DEBIAN,  # as Raspberry Pi OS calls itself
            (
                "deb http://deb.debian.org/debian bookworm main\n"
                "deb http://archive.raspberrypi.com/debian/ bookworm main\n"
            ),
            ["http://deb.debian.org/debian bookworm"],
        ),
    ],
)
def test_derivatives_are_served_by_what_they_are_made_from(
    tmp_path: Path, release: str, lines: str, expected: list[str]
) -> None:
    assert taken(tmp_path, release, lines) == expected
    found = sources.read(tmp_path, tmp_path / "os-release", tmp_path / "lists")
    assert bool(found.made_into) == (release != DEBIAN)


@pytest.mark.parametrize(
    ("release", "line"),
    [
        (KALI, "deb http://http.kali.org/kali kali-rolling main"),
        (RASPBIAN, "deb http://raspbian.raspberrypi.org/raspbian bookworm main"),
    ],
)
def test_derivatives_with_packages_of_their_own_are_refused(
    tmp_path: Path, release: str, line: str
) -> None:
    with pytest.raises(NotPossibleHere, match="whose packages are its own"):
        taken(tmp_path, release, line)


def test_this_hosts_own_lists_are_found() -> None:
    found = sources.read()
    if not list(archives.LISTS.glob("*_InRelease")):
        pytest.skip("apt has no lists here")
    assert {archives.origin(entry) for entry in found.entries} & {"Debian", "Ubuntu"}
