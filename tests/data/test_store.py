"""The store: downloads that are cut, slow, wrong or refused, by one process or several."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loopback_site import Step, sha256

from c2s.data.download import ContentRefused, ResumingDownloader
from c2s.data.manifest import read_manifest
from c2s.data.records import (
    part_path,
    read_record,
    record_path,
    validator_path,
    write_record,
    write_validator,
)
from c2s.data.store import DatasetUnavailable, Store, store
from c2s.errors import C2SWarning, DatasetError, OutputError

CONTENT = bytes(range(256)) * 4000
OTHER = CONTENT[:-1] + b"!"


@pytest.fixture
def place(tmp_path):
    return Store(tmp_path / "home", loopback_http=True, backoff=0.001, retries=3, timeout=5, show_progress=False)


@pytest.fixture
def told(manifest_file):
    """Write a manifest of one file at some addresses, and read it."""

    def make(*urls, content=CONTENT, name="some_cells", size=None, **changes):
        file = {"name": "cells.h5ad", "role": "cells", "urls": list(urls), "sha256": sha256(content)} | changes
        if size is not None:
            file["bytes"] = size
        if file["sha256"] is None:
            file["sha256_reason"] = "nobody states one"
        return read_manifest(manifest_file(name, files=[file]), loopback_http=True)

    return make


def left(place, name="some_cells"):
    """Everything in the folder of a dataset."""
    folder = place.home / name
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_file_is_downloaded_once_and_recorded(site, place, told):
    manifest = told(site.serve("/a", CONTENT), size=len(CONTENT))
    path = place.path(manifest)
    assert path == place.home / "some_cells" / "cells.h5ad"
    assert path.read_bytes() == CONTENT
    assert place.path(manifest, "cells.h5ad") == path
    assert site.asked("/a") == [None]
    record = read_record(path)
    assert record["url"] == site.url("/a")
    assert record["sha256"] == sha256(CONTENT)
    assert record["date"].endswith("Z")
    assert left(place) == [".cells.h5ad.json", "cells.h5ad"]


def test_a_cut_connection_is_continued(site, place, told):
    url = site.serve("/a", Step(CONTENT, cut=1000), Step(CONTENT, cut=5000), Step(CONTENT))
    path = place.path(told(url))
    assert path.read_bytes() == CONTENT
    assert site.asked("/a") == [None, "bytes=1000-", "bytes=6000-"]
    assert left(place) == [".cells.h5ad.json", "cells.h5ad"]


def test_a_connection_that_is_cut_often_but_always_brings_something_ends_well(site, place, told):
    step = len(CONTENT) // 20
    path = place.path(told(site.serve("/a", *[Step(CONTENT, cut=step)] * 21, Step(CONTENT))))
    assert path.read_bytes() == CONTENT
    assert len(site.asked("/a")) > 3 * place.retries


def test_a_body_without_a_length_is_continued_where_the_size_is_known(site, place, told):
    url = site.serve("/a", Step(CONTENT, cut=777, stated=False), Step(CONTENT, stated=False))
    assert place.path(told(url, size=len(CONTENT))).read_bytes() == CONTENT
    assert site.asked("/a") == [None, "bytes=777-"]


def test_a_server_without_ranges_begins_again(site, place, told):
    url = site.serve("/a", Step(CONTENT, cut=1000), Step(CONTENT, ranges=False))
    assert place.path(told(url)).read_bytes() == CONTENT
    assert site.asked("/a") == [None, "bytes=1000-"]


def test_a_wrong_range_or_none_left_begins_again(site, place, told):
    manifest = told(site.serve("/a", CONTENT))
    part = part_path(place.home / "some_cells" / "cells.h5ad", site.url("/a"))
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"more")
    assert place.path(manifest).read_bytes() == CONTENT
    assert site.asked("/a") == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_rest_of_another_file_is_noticed_and_all_is_fetched_again(site, place, told):
    manifest = told(site.serve("/a", CONTENT))
    part = part_path(place.home / "some_cells" / "cells.h5ad", site.url("/a"))
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * 5000)
    assert place.path(manifest).read_bytes() == CONTENT
    assert site.asked("/a") == ["bytes=5000-", None]


ETAG, OTHER_ETAG = {"ETag": '"one"'}, {"ETag": '"two"'}
DATE, OTHER_DATE = (
    {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
    {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"},
)


def begun(place, url, content, validator=None, name="some_cells"):
    """Leave the beginning of a download from an address."""
    part = part_path(place.home / name / "cells.h5ad", url)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(content)
    write_validator(part, validator)
    return part


@pytest.mark.parametrize("sha256_too", [False, True])
@pytest.mark.parametrize(("before", "after"), [(ETAG, OTHER_ETAG), (DATE, OTHER_DATE)])
@pytest.mark.filterwarnings("ignore:nobody states")
def test_a_file_that_changes_while_it_is_fetched_is_fetched_from_its_beginning(
    site, place, told, before, after, sha256_too
):
    """Also where no sum would tell: the two halves must never be spliced."""
    new = bytes(reversed(CONTENT))
    url = site.serve("/a", Step(CONTENT, cut=5000, headers=before), Step(new, headers=after))
    manifest = told(url, content=new) if sha256_too else told(url, sha256=None)
    path = place.path(manifest)
    assert path.read_bytes() == new
    assert site.asked("/a") == [None, "bytes=5000-"]
    assert site.conditions == [None, next(iter(before.values()))]
    assert left(place) == [".cells.h5ad.json", "cells.h5ad"]


@pytest.mark.parametrize("headers", [ETAG, DATE])
@pytest.mark.filterwarnings("ignore:nobody states")
def test_a_file_that_stays_the_same_is_continued_also_without_a_sum_and_by_another_process(
    site, place, told, headers
):
    url = site.serve("/a", Step(CONTENT, cut=5000, headers=headers), Step(CONTENT, headers=headers))
    begun(place, url, CONTENT[:3000], next(iter(headers.values())))
    assert place.path(told(url, sha256=None)).read_bytes() == CONTENT
    assert site.asked("/a") == ["bytes=3000-", "bytes=8000-"]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"one"'}])
@pytest.mark.filterwarnings("ignore:nobody states")
def test_where_nothing_would_tell_all_is_fetched_again(site, place, told, headers):
    new = bytes(reversed(CONTENT))
    url = site.serve("/a", Step(CONTENT, cut=5000, headers=headers), Step(new, headers=headers))
    begun(place, url, b"?" * 3000)
    assert place.path(told(url, sha256=None)).read_bytes() == new
    assert site.asked("/a") == [None, None]


@pytest.mark.filterwarnings("ignore:nobody states")
def test_a_server_that_does_not_know_if_range_is_found_out(site, place, told):
    new = bytes(reversed(CONTENT))
    url = site.serve("/a", Step(CONTENT, cut=5000, headers=ETAG), Step(new, headers=OTHER_ETAG, if_range=False))
    assert place.path(told(url, sha256=None)).read_bytes() == new
    assert site.asked("/a") == [None, "bytes=5000-", None]
    url = site.serve("/b", Step(CONTENT, cut=5000, headers=ETAG), Step(new, if_range=False))
    assert place.path(told(url, sha256=None, name="silent")).read_bytes() == new
    assert site.asked("/b") == [None, "bytes=5000-", None]


def test_another_order_of_addresses_splices_nothing(site, place, told):
    """The beginning of one address is continued from that address only."""
    one = site.serve("/one", Step(CONTENT, cut=5000), Step(status=404))
    two = site.serve("/two", Step(status=404), Step(CONTENT))
    with pytest.raises(DatasetUnavailable):
        place.path(told(one, two))
    assert part_path(place.home / "some_cells" / "cells.h5ad", one).stat().st_size == 5000
    assert place.path(told(two, one)).read_bytes() == CONTENT
    assert site.asked("/two") == [None, None]
    assert left(place) == [".cells.h5ad.json", "cells.h5ad"]


def test_an_unfinished_download_and_what_it_is_of_go_together(site, place, told):
    url = site.serve("/a", Step(CONTENT, cut=5000, headers=ETAG), Step(status=404))
    with pytest.raises(DatasetUnavailable):
        place.path(told(url))
    part = part_path(place.home / "some_cells" / "cells.h5ad", url)
    assert validator_path(part).read_text() == '"one"'
    site.serve("/a", Step(OTHER, headers=OTHER_ETAG))
    with pytest.raises(ContentRefused):
        place.path(told(url))
    assert left(place) == [f"cells.h5ad.refused-{sha256(OTHER)[:8]}"]


def test_wrong_bytes_are_refused_and_kept_aside(site, place, told):
    manifest = told(site.serve("/a", OTHER, CONTENT))
    with pytest.raises(ContentRefused) as caught:
        place.path(manifest)
    assert sha256(CONTENT) in caught.value.problem
    assert sha256(OTHER) in caught.value.problem
    aside = place.home / "some_cells" / f"cells.h5ad.refused-{sha256(OTHER)[:8]}"
    assert str(aside) in caught.value.problem
    assert aside.read_bytes() == OTHER
    assert left(place) == [aside.name]
    assert place.path(manifest).read_bytes() == CONTENT


def test_more_bytes_than_stated_are_not_even_awaited(site, place, told):
    manifest = told(site.serve("/a", CONTENT * 20), size=len(CONTENT))
    with pytest.raises(ContentRefused, match=r"must have 1,024,000 bytes .* the server sends 20,480,000"):
        place.path(manifest)
    endless = told(site.serve("/b", Step(CONTENT * 2, stated=False)), size=len(CONTENT), name="endless")
    with pytest.raises(ContentRefused, match=r"or more\. The download was stopped"):
        place.path(endless)
    assert left(place) == left(place, "endless") == []


def test_a_slow_server_is_given_up_and_asked_again(site, place, told):
    quick = Store(place.home, loopback_http=True, backoff=0.001, timeout=0.3, show_progress=False)
    url = site.serve("/a", Step(CONTENT, wait=1.5), Step(CONTENT))
    assert quick.path(told(url)).read_bytes() == CONTENT
    assert len(site.asked("/a")) == 2


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_clear_no_is_not_asked_twice(site, place, told, status):
    manifest = told(site.serve("/a", Step(status=status)))
    with pytest.raises(DatasetUnavailable, match=rf"the server answers {status} ") as caught:
        place.path(manifest)
    assert len(site.asked("/a")) == 1
    assert "C2S_DATA_MIRROR" in caught.value.fix


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(site, place, told, status):
    url = site.serve("/a", Step(status=status), Step(status=status), Step(CONTENT))
    assert place.path(told(url)).read_bytes() == CONTENT
    assert len(site.asked("/a")) == 3


def test_a_server_says_when_to_ask_again(site, place, told):
    url = site.serve("/a", Step(status=503, headers={"Retry-After": "1"}), Step(CONTENT))
    started = time.monotonic()
    place.path(told(url))
    assert time.monotonic() - started > 0.9


def test_a_broken_server_is_given_up(site, place, told):
    with pytest.raises(DatasetUnavailable, match=r"answers 500 .*after 4 attempts"):
        place.path(told(site.serve("/a", Step(status=500))))
    assert len(site.asked("/a")) == 4


def test_the_next_address_is_tried(site, place, told):
    bad, wrong = site.serve("/bad", Step(status=404)), site.serve("/wrong", OTHER)
    assert place.path(told(bad, wrong, site.serve("/good", CONTENT))).read_bytes() == CONTENT
    with pytest.raises(DatasetError, match="corrupt or was changed"):
        place.path(told(wrong, bad, name="others"))


def test_redirects_are_followed_on_allowed_ground_only(site, place, told):
    site.serve("/a", CONTENT)
    url = site.serve("/moved", Step(status=302, headers={"Location": "/a"}))
    assert place.path(told(url)).read_bytes() == CONTENT
    for number, target in enumerate(["http://example.org/x", "file:///etc/passwd", "ftp://example.org/x"]):
        url = site.serve("/away", Step(status=302, headers={"Location": target}))
        with pytest.raises(DatasetUnavailable, match=r"not allowed|No connection adapters"):
            place.path(told(url, name=f"away_{number}"))
    url = site.serve("/round", Step(status=302, headers={"Location": "/round"}))
    with pytest.raises(DatasetUnavailable, match="redirects"):
        place.path(told(url, name="round"))


def test_http_is_for_tests_with_a_server_of_their_own(site, place, told):
    manifest = told(site.serve("/a", CONTENT))
    with pytest.raises(DatasetUnavailable, match="only https and file addresses are"):
        Store(place.home, show_progress=False).path(manifest)
    assert site.asked("/a") == []


def test_an_unknown_server_is_no_reason_to_wait(place, told):
    started = time.monotonic()
    patient = Store(place.home, backoff=30, show_progress=False)
    with pytest.raises(DatasetUnavailable, match="no network, or no such server"):
        patient.path(told("https://nowhere.invalid/a"))
    assert time.monotonic() - started < 20


def test_file_addresses_are_copied_and_checked_also_offline(place, told, tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    offline = Store(place.home, offline=True, show_progress=False)
    path = offline.path(told((tmp_path / "source").as_uri()))
    assert path.read_bytes() == CONTENT
    with pytest.raises(DatasetUnavailable, match="No such file"):
        offline.path(told((tmp_path / "gone").as_uri(), name="gone"))


def test_offline_means_no_request(site, place, told):
    offline = Store(place.home, offline=True, loopback_http=True)
    manifest = told(site.serve("/a", CONTENT))
    with pytest.raises(DatasetUnavailable, match="C2S_OFFLINE is set") as caught:
        offline.path(manifest)
    assert "unset C2S_OFFLINE" in caught.value.fix
    assert site.requests == []
    place.path(manifest)
    assert offline.path(manifest).read_bytes() == CONTENT


def test_the_mirror_comes_first(site, place, told, tmp_path):
    mirror = tmp_path / "mirror" / "deep"
    mirror.mkdir(parents=True)
    (mirror / "another-name").write_bytes(CONTENT)
    mirrored = Store(place.home, tmp_path / "mirror", loopback_http=True)
    for size in (None, len(CONTENT)):
        assert mirrored.path(told(site.serve("/a", CONTENT), size=size)) == mirror / "another-name"
    assert site.requests == []


def test_trust_on_first_use(site, place, told):
    url = site.serve("/a", CONTENT, OTHER)
    manifest = told(url, sha256=None)
    with pytest.warns(C2SWarning, match=rf"nobody states a checksum .*{sha256(CONTENT)}; a later"):
        path = place.path(manifest)
    path.unlink()
    with pytest.raises(ContentRefused, match=sha256(OTHER)) as caught:
        place.path(manifest)
    assert "c2s data fetch some_cells --forget" in caught.value.fix
    assert not path.exists()
    assert place.forget(manifest, manifest.file())
    assert not place.forget(manifest, manifest.file())
    with pytest.warns(C2SWarning, match=sha256(OTHER)):
        assert place.path(manifest).read_bytes() == OTHER
    path.write_bytes(CONTENT)
    with pytest.raises(DatasetError, match=f"when it was first used it had sha256 {sha256(OTHER)}"):
        place.path(manifest)


def test_a_file_put_there_by_hand_is_recorded(place, told):
    manifest = told(sha256=None)
    with pytest.raises(DatasetUnavailable, match="no public address") as caught:
        place.path(manifest)
    path = place.home / "some_cells" / "cells.h5ad"
    assert str(path) in caught.value.fix
    path.write_bytes(CONTENT)
    with pytest.warns(C2SWarning, match=sha256(CONTENT)):
        assert place.path(manifest) == path
    path.write_bytes(OTHER)
    with pytest.raises(DatasetError, match="corrupt or was changed"):
        place.path(manifest)


def test_a_file_damaged_in_the_store_is_refused_and_fetched_again(site, place, told):
    manifest = told(site.serve("/a", CONTENT))
    path = place.path(manifest)
    path.write_bytes(OTHER)
    with pytest.raises(DatasetError) as caught:
        place.path(manifest)
    assert sha256(CONTENT) in caught.value.problem
    assert sha256(OTHER) in caught.value.problem
    assert f"cells.h5ad.refused-{sha256(OTHER)[:8]}" in left(place)
    assert place.path(manifest).read_bytes() == CONTENT


def test_a_file_is_read_again_only_if_it_changed(site, place, told, monkeypatch):
    manifest = told(site.serve("/a", CONTENT))
    path = place.path(manifest)
    monkeypatch.setattr("c2s.data.store.sum_of", lambda _: pytest.fail("the file was read"))
    place.path(manifest)
    record_path(path).unlink()
    with pytest.raises(pytest.fail.Exception):
        place.path(manifest)


def test_a_record_that_cannot_be_read_is_not_trusted(site, place, told):
    path = place.path(told(site.serve("/a", CONTENT)))
    for damaged in ("{", "[]", '{"sha256": 1}'):
        record_path(path).write_text(damaged)
        with pytest.raises(DatasetError, match="cannot be read") as caught:
            place.path(told(site.url("/a")))
        assert "remove" in caught.value.fix


def test_nothing_leaves_the_store_folder(site, place, told, tmp_path):
    manifest = told(site.serve("/a", CONTENT))
    (tmp_path / "elsewhere").mkdir()
    place.home.mkdir()
    (place.home / "some_cells").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="leads out of the store folder"):
        place.path(manifest)
    (place.home / "some_cells").unlink()
    (place.home / "some_cells").mkdir()
    (place.home / "some_cells" / "cells.h5ad").symlink_to(tmp_path / "elsewhere" / "x")
    with pytest.raises(DatasetError, match="leads out of the store folder"):
        place.path(manifest)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert site.requests == []


def test_a_store_that_cannot_be_written(site, told, tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(DatasetError, match="cannot be written") as caught:
        Store(tmp_path / "home").path(told(site.serve("/a", CONTENT)))
    assert "C2S_DATA_HOME" in caught.value.fix


def test_a_full_disk(site, place, told, monkeypatch):
    manifest = told(site.serve("/a", CONTENT))
    usage = shutil.disk_usage(place.home.parent)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
        with pytest.raises(OutputError, match="needs 1,024,000 bytes more"):
            place.path(manifest)

    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(ResumingDownloader, "_remote", full)
    with pytest.raises(OutputError, match="the disk is full while fetching"):
        place.path(manifest)
    assert left(place) == []


CHILD = """
import sys
from pathlib import Path
from c2s.data.manifest import read_manifest
from c2s.data.store import Store
manifest = read_manifest(Path(sys.argv[1]), loopback_http=True)
print("ready", flush=True)
sys.stdin.readline()
print(Store(Path(sys.argv[2]), loopback_http=True, backoff=0.01).path(manifest))
"""


def child(manifest_path: Path, home: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(manifest_path), str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )


def test_several_processes_download_once(site, place, told, tmp_path):
    told(site.serve("/a", Step(CONTENT, wait=1.0)))
    children = [child(tmp_path / "some_cells.yaml", place.home) for _ in range(4)]
    for one in children:
        assert one.stdout.readline() == "ready\n"
    for one in children:
        one.stdin.write("\n")
        one.stdin.flush()
    outputs = [one.communicate(timeout=60) for one in children]
    assert [one.returncode for one in children] == [0] * 4, outputs
    assert {out.strip() for out, _ in outputs} == {str(place.home / "some_cells" / "cells.h5ad")}
    assert site.asked("/a") == [None]
    assert sum("another process fetches it; waiting" in err for _, err in outputs) == 3


def test_a_killed_download_is_continued_by_the_next(site, place, told, tmp_path):
    manifest = told(site.serve("/a", Step(CONTENT, cut=300_000), Step(CONTENT, wait=30)))
    one = child(tmp_path / "some_cells.yaml", place.home)
    one.stdin.write("\n")
    one.stdin.flush()
    until = time.monotonic() + 60
    while len(site.asked("/a")) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    one.send_signal(signal.SIGKILL)
    one.communicate(timeout=30)
    site.serve("/a", CONTENT)
    assert place.path(manifest).read_bytes() == CONTENT
    assert site.asked("/a")[-1] == "bytes=300000-"


def test_verify_reads_what_is_here_and_downloads_nothing(site, place, told):
    manifest = told(site.serve("/a", CONTENT))
    file = manifest.file()
    assert place.verify(manifest, file).state == "absent"
    assert site.requests == []
    path = place.path(manifest)
    assert place.verify(manifest, file).state == "ok"
    stat = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert place.path(manifest) == path  # by size and time nothing has changed
    from c2s.data.mirror import _sha256

    _sha256.cache_clear()
    found = place.verify(manifest, file)
    assert found.state == "refused"
    assert sha256(OTHER) in found.what
    assert not path.exists()


def test_verify_of_what_nobody_states_and_of_a_damaged_mirror(site, place, told, tmp_path):
    unstated = told(site.serve("/a", CONTENT), sha256=None)
    with pytest.warns(C2SWarning):
        place.path(unstated)
    assert place.verify(unstated, unstated.file()).state == "recorded"
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "x").write_bytes(OTHER)
    stated = told(name="stated", size=len(CONTENT))
    mirrored = Store(place.home, tmp_path / "mirror")
    found = mirrored.verify(stated, stated.file())
    assert (found.state, found.where) == ("refused", tmp_path / "mirror" / "x")
    assert mirrored.whereabouts(stated, stated.file()) == "mirror"  # a glance sees only the size
    (tmp_path / "mirror" / "x").write_bytes(CONTENT)
    assert mirrored.verify(stated, stated.file()).state == "ok"
    assert place.verify(stated, stated.file()).what == "only from a mirror"


def test_a_package_that_is_not_installed(place, told):
    manifest = told(package="no_such_package_here:data/x.h5ad", sha256=None)
    assert place.verify(manifest, manifest.file()).state == "absent"
    assert place.whereabouts(manifest, manifest.file()) == ""
    with pytest.raises(DatasetUnavailable, match="comes with no_such_package_here"):
        place.path(manifest)


def test_the_environment_names_the_places(monkeypatch, tmp_path):
    monkeypatch.setenv("C2S_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("C2S_DATA_MIRROR", str(tmp_path))
    monkeypatch.setenv("C2S_OFFLINE", "1")
    assert store() == Store(tmp_path / "home", tmp_path, True)
    monkeypatch.delenv("C2S_DATA_HOME")
    monkeypatch.delenv("C2S_DATA_MIRROR")
    monkeypatch.setenv("C2S_OFFLINE", "0")
    assert store().home.parts[-2:] == ("c2s", "data")
    assert (store().mirror, store().offline) == (None, False)


def test_progress_is_shown(site, place, told, monkeypatch, capsys):
    shown = Store(place.home, loopback_http=True)
    clock = iter(range(0, 10_000, 6))
    monkeypatch.setattr("c2s.data.download.time.monotonic", lambda: float(next(clock)))
    shown.path(told(site.serve("/a", CONTENT)))
    assert "cells.h5ad of dataset 'some_cells': 0.5 of 1.0 MB" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown.path(told(site.url("/a"), name="again"))
    assert json.loads(record_path(place.home / "again" / "cells.h5ad").read_text())["bytes"] == len(CONTENT)


def test_threads_that_record_one_file_at_once_leave_a_whole_record(tmp_path):
    final = tmp_path / "cells.h5ad"
    final.write_bytes(b"cells")
    sums = [character * 64 for character in "0123456789abcdef"]

    def record_and_read(found):
        for _ in range(20):
            write_record(final, found)
            assert read_record(final)["sha256"] in sums

    with ThreadPoolExecutor(len(sums)) as threads:
        list(threads.map(record_and_read, sums))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cells.h5ad.json", "cells.h5ad"]
