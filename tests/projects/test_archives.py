"""Archives of somebody else's: those that tools write are read, all others end soon and in
words.
"""

import contextlib
import gzip
import io
import os
import random
import subprocess
import tarfile
import time
import zlib

import pytest
from support.hostile import gzip_of

from hub.engine.errors import ManifestError
from projects.sources.archives import ArchiveBudget, unpack

LONG = "/".join(["folder-of-twenty-char"] * 6)
LONGER = "/".join(["folder-of-twenty-char"] * 20)
FILES = {
    "c/Chart.yaml": b"name: c\n",
    "c/empty": b"",
    "c/block": b"x" * 512,
    "c/big.bin": bytes(range(256)) * 700,
    f"c/{LONG}/values.yaml": b"a: 1\n",
    f"c/{LONGER}/values.yaml": b"a: 2\n",
    "c/größe-名前.txt": b"unicode\n",
    f"c/{LONGER}/名前-{'é' * 50}.txt": b"both\n",
}
SECONDS = 3.0
"""Far more than what is bounded takes, and far less than what was not."""


def held(files):
    found = {}

    def walk(folder):
        for name in files.children(folder):
            path = f"{folder}/{name}" if folder else name
            if files.children(path):
                walk(path)
            else:
                found[path] = files.blob(path)

    walk("")
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "c/link").symlink_to("/etc/passwd")
    os.link(root / "c/block", root / "c/again")
    return root


def by_tar(kind):
    def pack(root):
        return subprocess.run(
            ["tar", f"--format={kind}", "--hard-dereference", "-cf", "-", "c"],
            cwd=root,
            check=True,
            capture_output=True,
        ).stdout

    return pack


def by_git(root):
    git = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "c"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    return subprocess.run(
        [*git, "archive", "--format=tar.gz", "HEAD"], check=True, capture_output=True
    ).stdout


def by_python(kind):
    def pack(root):
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w:gz", format=kind) as archive:
            archive.add(root / "c", "c")
        return body.getvalue()

    return pack


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(by_tar("gnu"), id="GNU tar, its own format"),
        pytest.param(by_tar("pax"), id="GNU tar, pax"),
        pytest.param(by_git, id="git archive"),
        pytest.param(by_python(tarfile.PAX_FORMAT), id="Python, pax"),
        pytest.param(by_python(tarfile.GNU_FORMAT), id="Python, GNU"),
    ],
)
def test_what_tools_write_is_read(tree, pack):
    found = held(unpack(pack(tree), strip=False))

    assert found.pop("c/again", b"x" * 512) == b"x" * 512
    # Of a file with two names the archive may have the second as a link.
    assert found.pop("c/block", b"x" * 512) == b"x" * 512
    assert found == {name: data for name, data in FILES.items() if name != "c/block"}


@pytest.mark.parametrize("kind", ["ustar", "v7"])
def test_old_formats_are_read(tree, tmp_path, kind):
    names = ["c/Chart.yaml", "c/big.bin", *([f"c/{LONG}/values.yaml"] if kind == "ustar" else [])]
    data = subprocess.run(
        ["tar", f"--format={kind}", "-cf", "-", *names], cwd=tree, check=True, capture_output=True
    ).stdout

    assert held(unpack(gzip.compress(data), strip=False)) == {n: FILES[n] for n in names}


def header(name=b"a", size=0, kind=b"0", *, length=None, magic=b"ustar\x0000"):
    field = length if length is not None else b"%011o\0" % size
    block = bytearray(512)
    block[: len(name)], block[124:136], block[156:157], block[257:265] = name, field, kind, magic
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def entry(name=b"a", data=b"", kind=b"0"):
    return header(name, len(data), kind) + data + bytes(-len(data) % 512)


def record(key, value):
    rest = b" %s=%s\n" % (key, value)
    size = len(rest) + 1
    while len(b"%d" % size) + len(rest) != size:
        size += 1
    return b"%d" % size + rest


def pax(*pairs, kind=b"x"):
    return entry(b"pax", b"".join(record(k, v) for k, v in pairs), kind)


END = bytes(1024)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"no archive", "middle of a header", id="text"),
        pytest.param(b"x" * 600, "checksum", id="longer text"),
        pytest.param(entry()[:300], "middle of a header", id="half a header"),
        pytest.param(header(size=600) + bytes(512), "middle of a file", id="half a file"),
        pytest.param(header(length=b"-0000000010\0"), "octal", id="negative octal size"),
        pytest.param(
            header(length=b"\xff" * 11 + b"\xf0"), "negative", id="negative size of bytes"
        ),
        pytest.param(header(length=b"00000000129\0"), "octal", id="a nine"),
        pytest.param(header(length=b"0000000_010\0"), "octal", id="an underscore"),
        pytest.param(header(length=b"\x80" + b"\x7f" * 11), "limit", id="size beyond all"),
        pytest.param(
            header(kind=b"x", length=b"\x80" + b"\x7f" * 11),
            "64 KiB",
            id="extended size beyond all",
        ),
        pytest.param(
            header(kind=b"Z", size=10**9), "middle of an entry", id="unknown entry without end"
        ),
        pytest.param(pax((b"size", b"-1")) + entry(), "is invalid", id="negative size of pax"),
        pytest.param(
            pax((b"size", b"1e3")) + entry(), "is invalid", id="size of pax with a letter"
        ),
        pytest.param(
            pax((b"size", "¹".encode())) + entry(), "is invalid", id="size of pax in small digits"
        ),
        pytest.param(
            pax((b"size", b"9" * 5000)) + entry(), "is invalid", id="size of pax with many digits"
        ),
        pytest.param(entry(b"p", b"3 a=b\n", b"x") + entry(), "record", id="record too short"),
        pytest.param(entry(b"p", b"99 a=b\n", b"x") + entry(), "record", id="record too long"),
        pytest.param(entry(b"p", b"0 a=b\n", b"x") + entry(), "record", id="record of nothing"),
        pytest.param(entry(b"p", b"+6 a=b\n", b"x") + entry(), "record", id="record with a sign"),
        pytest.param(entry(b"p", b"1" * 60_000, b"x") + entry(), "record", id="digits alone"),
        pytest.param(pax((b"path", b"x\0y")) + entry(), "zero byte", id="zero in a name"),
        pytest.param(pax((b"path", b"\xff")) + entry(), "UTF-8", id="name that is not text"),
        pytest.param(
            pax((b"path", b"x" * 2000)) + entry(), "1024 char", id="name that is too long"
        ),
        pytest.param(
            pax((b"path", b"../x")) + entry(), "leads out", id="name of pax that leads out"
        ),
        pytest.param(
            entry(b"L", b"/x\0", b"L") + entry(), "leads out", id="name of GNU that leads out"
        ),
        pytest.param(
            pax((b"path", b"x")) + entry(b"L", b"y\0", b"L") + entry(), "both", id="pax and GNU"
        ),
        pytest.param(pax((b"path", b"x"), kind=b"g") + entry(), "global", id="global name"),
        pytest.param(pax((b"size", b"5"), kind=b"g") + entry(), "global", id="global size"),
        pytest.param(pax((b"GNU.sparse.major", b"1")) + entry(), "sparse", id="sparse by pax"),
        pytest.param(header(kind=b"S"), "sparse", id="sparse by GNU"),
        pytest.param(
            pax((b"path", b"x")), "after an extended", id="nothing after an extended header"
        ),
        pytest.param(
            entry(b"a") + entry(b"a/b"), "both as a file and as a folder", id="file and folder"
        ),
        pytest.param(entry(b"a", b"x" * 3000), "unpacks", id="more than the limit"),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_an_invalid_archive_is_refused_with_a_message(settings, data, words, packed):
    settings.MAX_CHART_BYTES = 2048
    with pytest.raises(ManifestError, match=words):
        unpack(gzip.compress(data) if packed else data, strip=False)


def test_a_size_of_pax_holds_for_reading_and_for_what_comes_next():
    # By the size of its header the first file would end where the second, hidden one begins.
    inner = entry(b"hidden", b"1")
    data = pax((b"size", b"%d" % len(inner))) + header(b"a", 0) + inner + entry(b"b", b"2") + END

    assert held(unpack(data, strip=False)) == {"a": inner, "b": b"2"}


def test_the_size_of_a_link_is_no_data():
    data = header(b"l", 512, b"2") + entry(b"a", b"1") + END

    assert held(unpack(data, strip=False)) == {"a": b"1"}


def test_an_extended_header_has_its_own_size():
    data = (
        pax((b"size", b"1"))
        + pax((b"path", b"named"), (b"mtime", b"1.5"))
        + header()
        + b"1".ljust(512, b"\0")
    )

    assert held(unpack(data, strip=False)) == {"named": b"1"}


def digits():
    # The standard library looks for "hdrcharset=" after digits, from each digit anew.
    return b"".join(entry(b"p", b"1" * 60_000, b"x") for _ in range(20)) + entry() + END


def many_globals():
    text = b"".join(record(b"k%d" % n, b"") for n in range(5000))
    return entry(b"g", text, b"g") * 30 + b"".join(entry(b"f%d" % n) for n in range(5000)) + END


def deep_names():
    folders = ("/".join(str(n * 100 + d) for d in range(90)) for n in range(4000))
    return b"".join(pax((b"path", f"{f}/x".encode())) + entry() for f in folders) + END


HELD = {
    "digits of pax": digits,
    "global headers": many_globals,
    "names in a row": lambda: entry(b"L", b"x\0", b"L") * 1500 + entry() + END,
    "pax in a row": lambda: pax((b"mtime", b"1")) * 50_000 + entry() + END,
    "records of nothing": lambda: (entry(b"p", b"5 a=\n" * 13_000, b"x") + entry()) * 100 + END,
    "folders": deep_names,
    "zeros": lambda: bytes(30 * 2**20),
    "empty members": lambda: gzip_of() * 200_000,
    "a name of gzip without an end": lambda: b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 20_000_000,
    "empty blocks of gzip": lambda: gzip_of()[:10] + b"\0\0\0\xff\xff" * 2_000_000,
    "nothing but links": lambda: header(kind=b"2") * 30_000,
    "unknown entries": lambda: header(kind=b"Z") * 30_000,
}


@pytest.mark.parametrize("kind", HELD)
def test_nothing_holds_the_reader(settings, kind):
    settings.MAX_CHART_BYTES = 4 * 2**20
    data = HELD[kind]()
    begin = time.process_time()

    with pytest.raises(ManifestError):
        unpack(data, strip=False)

    assert time.process_time() - begin < SECONDS


def test_archives_of_one_chart_share_their_room(settings):
    settings.MAX_CHART_BYTES = 2**20
    padding = gzip_of(entry(b"c/a", b"1"), bytes(12 * 2**20))
    room = ArchiveBudget()
    unpack(padding, strip=True, room=room)

    with pytest.raises(ManifestError, match="limit"):
        unpack(padding, strip=True, room=room)


def test_what_is_uncompressed_with_little_gain_is_copied_once():
    noise = random.Random(5).randbytes(60 * 2**20)
    data = zlib.compress(entry(b"a", noise) + END, 0, wbits=31)
    begin = time.process_time()

    assert len(unpack(data, strip=False).blob("a")) == len(noise)
    assert time.process_time() - begin < SECONDS


def mutated(data, source):
    data = bytearray(data)
    for _ in range(source.randint(1, 4)):
        at = (
            source.randrange(0, len(data) // 512) * 512
            if source.random() < 0.5
            else source.randrange(len(data))
        )
        way = source.randrange(4)
        if way == 0:
            data[min(at + source.randrange(512), len(data) - 1)] = source.randrange(256)
        elif way == 1:
            del data[at : at + source.choice((1, 512, 1024))]
        elif way == 2:
            data[at:at] = source.randbytes(source.choice((1, 512)))
        else:
            data[at + 124 : at + 157] = source.choice((b"7" * 33, b"\x80" * 33, b"x" * 33))
        data = data or bytearray(b"\0" * 512)
    return bytes(data)


def repaired(data):
    """Return blocks that look like headers with their right checksums, so that what they say is
    read.
    """
    blocks = [data[n : n + 512] for n in range(0, len(data), 512)]
    for n, block in enumerate(blocks):
        if len(block) == 512 and b"ustar" in block[257:263]:
            blank = block[:148] + b"        " + block[156:]
            blocks[n] = blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]
    return b"".join(blocks)


@pytest.mark.parametrize("seed", range(4))
def test_a_broken_archive_is_read_or_refused_with_a_message(tree, settings, seed):
    settings.MAX_CHART_BYTES = 2**20
    source = random.Random(seed)
    whole = [by_tar("pax")(tree), by_tar("gnu")(tree)]
    for turn in range(250):
        data = mutated(whole[turn % 2], source)
        data = repaired(data) if turn % 3 else data
        with contextlib.suppress(ManifestError):
            unpack(data, strip=bool(turn % 2))
        packed = mutated(gzip.compress(data, 1), source) if turn % 10 == 0 else b""
        with contextlib.suppress(ManifestError):
            unpack(packed, strip=False)
