"""Software from source, as far as nothing has to be compiled for it: what is asked for, what is read, what is said."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnlab.errors import OvnlabError, TopologyError, UsageError
from ovnlab.lab.status import DaemonStatus, software_of
from ovnlab.software import artefacts, sources, working_tree
from ovnlab.tasks.build import FirstError, Log, first_error
from ovnlab.tasks.probe import parse as parse_probe
from ovnlab.topology.load import load_software, load_text
from ovnlab.topology.resolved import Origin, Software

NODES = "nodes: {central: {role: central}, worker1: , worker2: }\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/ovnlab"


def of(text: str, *options: str, path: str = "/lab/lab.yaml") -> dict[str, Software]:
    found = load_text(path, f"{NODES}{text}".encode(), settings=options).topology
    return {node.name: node.software for node in found.nodes}


# ── what is asked for ────────────────────────────────────────────────────────────────────────────────


def test_each_component_has_an_origin_of_its_own() -> None:
    text = "software: {ovs: {git: https://example.org/ovs, ref: v3.5.0}, ovn: {distro: true}, profile: debug}"
    found = of(text)["worker1"]
    assert found.ovs == Origin("git", "https://example.org/ovs", "v3.5.0")
    assert found.ovn == Origin("distro")
    assert (found.library, found.profile, found.is_built) == (None, "debug", True)
    assert of("")["worker1"] == Software()
    assert of("software: system")["central"] == Software(Origin("system"), Origin("system"))


def test_paths_are_of_the_files_folder_and_of_the_current_one_on_the_command_line() -> None:
    assert of("software: {ovs: {path: ../ovs}}")["central"].ovs.place == "/ovs"
    assert of("software: {ovs: {tarball: ovs.tar.gz}}")["central"].ovs.place == "/lab/ovs.tar.gz"
    assert of("software: {ovs: {path: ~/ovs}}")["central"].ovs.place == str(Path("~/ovs").expanduser())
    assert of("", "software.ovs.path=ovs")["central"].ovs.place == str(Path.cwd() / "ovs")
    assert of("", "software.ovs.path=~/ovs")["central"].ovs.place == str(Path("~/ovs").expanduser())
    assert of("", "software.ovs.path=~nobody-at-all/x")["central"].ovs.place == str(Path.cwd() / "~nobody-at-all/x")
    assert of("software: {ovs: {git: ./ovs}}")["central"].ovs.place == "/lab/ovs"
    assert of("software: {ovs: {git: 'git@x.org:ovs'}}")["central"].ovs.place == "git@x.org:ovs"
    assert of("software: {ovs: {tarball: 'http://x/y.tgz'}}")["central"].ovs.place == "http://x/y.tgz"


def test_the_command_line_puts_one_origin_in_the_place_of_another() -> None:
    text = "software: {ovs: {git: u, ref: v1}, ovn: {tarball: x, sha256: '" + "0" * 64 + "'}}"
    found = of(text, "software.ovn.path=/src/ovn", "software.ovs.git=v", "software.ovs.ref=w")["central"]
    assert found == Software(Origin("git", "v", "w"), Origin("path", "/src/ovn"))
    assert of(text, "software.ovs.ref=w")["central"].ovs == Origin("git", "u", "w")
    assert of("software: system", "software.ovn.path=/x")["central"] == Software(Origin("system"), Origin("path", "/x"))
    assert of("software: packages", "software.ovn.distro=true")["central"].ovn == Origin("distro")
    with pytest.raises(TopologyError, match="exactly one of git, tarball, path and distro"):
        of("", "software.ovn.path=/x", "software.ovn.distro=true")


@pytest.mark.parametrize(
    ("ref", "meant"), [("ABCDEF0123" * 4, "abcdef0123" * 4), ("Branch-3.7", "Branch-3.7"), ("ABCDEF", "ABCDEF")]
)
def test_a_commit_is_the_same_in_capital_letters_and_a_branch_is_not(ref: str, meant: str) -> None:
    found = of(f"software: {{ovs: {{git: u, ref: {ref}}}, ovn: {{distro: true}}}}")["central"]
    assert found.ovs == Origin("git", "u", meant)


def test_what_a_node_leaves_out_is_as_the_lab_has_it() -> None:
    text = (
        "software: {ovs: {git: u}, ovn: {git: v}, ovn_library: {git: l}, cflags: -O3}\n"
        "nodes: {central: {role: central}, a: {software: {ovs: {path: /x}}}, b: {software: packages},"
        " c: {software: {ovn: {path: /y}, profile: debug}}}"
    )
    nodes = {n.name: n.software for n in load_text("/lab/l.yaml", text.encode()).topology.nodes}
    assert nodes["a"] == Software(Origin("path", "/x"), Origin("git", "v"), Origin("git", "l"), "fast", "-O3")
    assert nodes["b"] == Software()
    # What another OVN is compiled against is not what the lab's is.
    assert nodes["c"] == Software(Origin("git", "u"), Origin("path", "/y"), None, "debug", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("software: {ovs: {git: u, ref: -x}}", "invalid branch, tag or commit '-x'"),
        ("software: {ovs: {git: u, ref: a..b}}", "invalid branch, tag or commit 'a..b'"),
        ("software: {ovs: {git: --upload-pack=x}}", "invalid URL of a git repository"),
        ("software: {ovn: {git: u}, ovs: system}", ""),
        ("software: {ovn: system}", "packages and system cannot be mixed"),
        ("software: {ovn_library: {git: u}}", "ovn_library goes with an OVN that is built"),
        ("software: {profile: quick}", "quick is not one of"),
        ("nodes: {c: {role: central}, w: {software: system}}", "packages and system cannot be mixed"),
        ("nodes: {c: {role: central}, h: {role: host, software: packages}}", "h is a host"),
    ],
)
def test_what_is_refused_in_a_file(text: str, said: str) -> None:
    full = text if "nodes" in text else f"{NODES}{text}"
    if not said:
        load_text("lab.yaml", full.encode())
        return
    with pytest.raises(TopologyError) as caught:
        load_text("lab.yaml", full.encode())
    assert said in str(caught.value)


def test_software_in_words_of_the_command_line() -> None:
    before = Software(Origin("git", "u"), Origin("path", "/ovn"), None, "debug")
    assert load_software("--software", ["packages"], before) == Software()
    found = load_software("--software", ["ovs.path=src"], before)
    assert found == Software(Origin("path", str(Path.cwd() / "src")), Origin("path", "/ovn"), None, "debug")
    assert load_software("--software", ["ovn=packages", "profile=perf"], before).ovn == Origin("packages")
    for words in (["latest"], ["packages", "ovs.path=x"], ["packages", "system"]):
        with pytest.raises(UsageError, match="unknown software"):
            load_software("--software", words, before)
    for word, said in (
        ("ovs.pth=x", "unknown key 'pth'"),
        ("ovs.ref=x", "exactly one"),
    ):
        with pytest.raises(TopologyError) as caught:
            load_software("--software", [word], before)
        assert said in str(caught.value)
        assert "--software" in str(caught.value)


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["write", "touch", "remove", "link", "mode"]),
        st.sampled_from(["a.c", "lib/b.c", "lib/deep/c.h", "lib/deep", "a.c/inner", "name with space"]),
        st.binary(max_size=3),
    ),
    max_size=12,
)


def change(tree: Path, what: str, name: str, content: bytes) -> None:
    path = tree / name
    for parent in path.parents:
        if parent.is_symlink() or parent.is_file():
            parent.unlink()  # a file becomes a folder
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)  # and a folder a file
    if what == "write":
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    elif what == "link":
        path.unlink(missing_ok=True)
        path.symlink_to(f"to-{content.hex()}")
    elif path.is_file():
        match what:
            case "touch":
                os.utime(path)
            case "remove":
                path.unlink()
            case "mode":
                path.chmod(0o755 if content else 0o644)


def content(tree: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in tree.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(tree))] = path.readlink()
        elif path.is_file():
            found[str(path.relative_to(tree))] = (path.read_bytes(), bool(path.stat().st_mode & 0o100))
    return found


@given(steps=st.lists(CHANGES, min_size=1, max_size=4))
def test_a_copy_follows_its_tree_through_any_changes(
    steps: list[list[tuple[str, str, bytes]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("trees")
    tree, copy = folder / "tree", folder / "copy"
    (tree / "lib").mkdir(parents=True)
    seen: dict[str, dict[str, object]] = {}
    for changes in steps:
        for what, name, data in changes:
            change(tree, what, name, data)
        found = working_tree.follow(tree, copy)
        assert content(copy) == content(tree)
        # The same content has the same address, and other content another.
        assert seen.setdefault(found, content(tree)) == content(tree)
        assert working_tree.digest(tree) == found
    shutil.rmtree(folder)


def test_what_has_not_changed_is_not_new_in_the_copy(tmp_path: Path) -> None:
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).write_text(name)
    working_tree.follow(tree, copy)
    (copy / "a.o").write_text("made")
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    os.utime(tree / "a")
    (tree / "b").write_text("other")
    os.utime(tree / "b", ns=(0, 0))  # as `cp -p` of an old file
    working_tree.follow(tree, copy)
    after = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    assert (after["a"], after["a.o"]) == (before["a"], before["a.o"])
    assert after["b"] > before["a.o"], "make would not compile it"


def test_a_change_in_the_same_tick_and_of_the_same_size_is_seen(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_text("one")
    stat = (tree / "a").stat()
    first = working_tree.digest(tree)
    (tree / "a").write_text("two")
    os.utime(tree / "a", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert working_tree.digest(tree) != first


def test_a_tree_that_changes_while_it_is_copied_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).write_text(name)
    right = working_tree._copy

    def change_meanwhile(source: Path, target: Path, file: working_tree._File, *, dated: bool) -> None:
        (tree / "b").write_text("other")
        right(source, target, file, dated=dated)

    monkeypatch.setattr(working_tree, "_copy", change_meanwhile)
    with pytest.raises(working_tree.Changed):
        working_tree.follow(tree, copy)


def test_a_copy_that_was_interrupted_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    tree.mkdir()
    for name in ("a", "b", "c"):
        (tree / name).write_text(name)
    right = working_tree._copy

    def killed(source: Path, target: Path, file: working_tree._File, *, dated: bool) -> None:
        right(source, target, file, dated=dated)
        if source.name == "b":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(working_tree, "_copy", killed)
        with pytest.raises(KeyboardInterrupt):
            working_tree.follow(tree, copy)
    (tree / "a").unlink()
    (tree / "c").write_text("other")
    working_tree.follow(tree, copy)
    assert content(copy) == content(tree)


def test_a_tree_may_hold_anything(tmp_path: Path) -> None:
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    tree.mkdir()
    os.mkfifo(tree / "pipe")
    odd = os.fsdecode(b"b\xffad\nname")
    (tree / odd).write_text("x")
    program = tree / "made-in-place"
    program.write_bytes(b"\x7fELF and more")
    program.chmod(0o755)
    (tree / "dangling").symlink_to("nowhere")
    working_tree.follow(tree, copy)
    assert {path.name for path in copy.iterdir()} == {odd, "dangling"}
    assert working_tree.digest(tree) == working_tree.follow(tree, copy)
    (tree / odd).chmod(0)
    if os.geteuid() != 0:
        (tree / odd).write_text("y")
        with pytest.raises(OvnlabError, match="cannot be read"):
            working_tree.digest(tree)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("AC_INIT(openvswitch, 3.1.0, bugs@openvswitch.org)", "3.1.0"),
        ("AC_INIT([ovn], [25.03.90], [bugs@openvswitch.org])", "25.03.90"),
        ("AC_INIT(\n  [ovn],\n  [24.03.2])", "24.03.2"),
        ("AC_INIT([ovn], m4_esyscmd([git describe]))", ""),
        ("", ""),
    ],
)
def test_the_version_that_configure_ac_says(tmp_path: Path, text: str, version: str) -> None:
    (tmp_path / "configure.ac").write_text(text)
    source = sources.SoftwareSource("ovn", Origin("path", str(tmp_path)), "", "", tree=tmp_path)
    assert sources.version(source, None) == version  # type: ignore[arg-type]  # a tree needs no context


@pytest.mark.parametrize(
    ("ovn", "ovs", "fits"),
    [("24.03.1", "3.3.9", True), ("24.03.1", "3.7.0", False), ("24.03.1", "3.3.90", False), ("24.03.90", "3.4.0", True), ("24.06.0", "3.9.0", True),
     ("", "3.1.0", True), ("24.03.1", "", True)],
)  # fmt: skip
def test_what_is_known_not_to_compile_is_refused(tmp_path: Path, ovn: str, ovs: str, fits: bool) -> None:
    found = []
    for name, version in (("ovn", ovn), ("ovs", ovs)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "configure.ac").write_text(f"AC_INIT([{name}], [{version}])" if version else "")
        found.append(sources.SoftwareSource(name, Origin("path", str(folder)), "", name, tree=folder))
    ovn_source, ovs_source = found
    if fits:
        sources.refuse_mismatch(ovn_source, ovs_source, None)  # type: ignore[arg-type]  # a tree needs no context
    else:
        with pytest.raises(OvnlabError, match=r"it takes OVS 3\.3"):
            sources.refuse_mismatch(ovn_source, ovs_source, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["gz", "xz", "bz2", ""])
def test_tarballs_of_any_kind_with_a_folder_or_without(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "in/lib").mkdir(parents=True)
    (tmp_path / "in/configure").write_text("x")
    (tmp_path / "in/lib/a").symlink_to("../configure")
    for number, name in enumerate(("ovs-3.1", ".")):
        archive = tmp_path / f"{number}.tar"
        with tarfile.open(archive, f"w:{suffix}") as tar:  # type: ignore[call-overload]  # one of its modes
            tar.add(tmp_path / "in", arcname=name)
        source = sources.SoftwareSource("ovs", Origin("tarball", str(archive)), "", archive.name, archive=archive)
        into = tmp_path / f"out{number}"
        sources.unpack(source, None, into)  # type: ignore[arg-type]  # a tarball needs no context
        assert (into / "lib/a").read_text() == "x"


def test_builds_are_found_by_their_content(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "made"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/tool").write_bytes(b"x" * 5000)
    (folder / "bin/link").symlink_to("tool")
    names = ["bin/tool", "bin/link"]
    key = artefacts.key_of({"ovs": "1"})
    part = artefacts.ArtefactPart("1", "here", "label", "3.1.0", artefacts.sums(folder, names))
    artefacts.put(artefacts.Artefact(key, {"ovs": part}, 1), folder)
    found = artefacts.find(key)
    assert found
    assert found.path == cache / "builds" / key
    assert found.size == 5000 + len("tool")
    assert artefacts.all_there() == [found]
    (found.path / "bin/link").unlink()
    (found.path / "bin/link").symlink_to("elsewhere")
    assert artefacts.find(key) is None
    assert artefacts.all_there() == [found], "what is damaged is kept until it is made again or pruned"
    artefacts.remove(found)
    assert artefacts.all_there() == []


def test_builds_of_a_tree_that_changes_do_not_grow_without_end(tmp_path: Path) -> None:
    def made(number: int, *, of_tree: bool) -> str:
        folder = tmp_path / "made"
        folder.mkdir()
        (folder / "tool").write_text(str(number))
        key = artefacts.key_of({"ovs": f"{number} {of_tree}"})
        sums = artefacts.sums(folder, ["tool"])
        part = artefacts.ArtefactPart("", "", "", "", sums, is_of_tree=of_tree)
        artefacts.put(artefacts.Artefact(key, {"ovs": part}, number), folder)
        os.utime(artefacts.builds_root() / key / artefacts.MANIFEST, (number, number))
        return key

    trees = [made(number, of_tree=True) for number in range(12)]
    others = [made(number, of_tree=False) for number in range(12)]
    assert artefacts.find(trees[1]), "which is somebody's who asks for it just now"
    artefacts.remove_outlived([trees[0]])
    kept = {*trees[:2], *trees[13 - artefacts.OUTLIVED_KEPT :]}
    assert {build.key for build in artefacts.all_there()} == {*kept, *others}


# ── what is said ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "  CC  a.o\nlib/a.c: In function 'f':\nlib/a.c:7:3: error: expected ';'\n    7 |   x\nb.c:1: error: more\n",
            FirstError("lib/a.c", 7, "expected ';'"),
        ),
        ("./lib/a.c:7:3: fatal error: no.h: No such file or directory\n", FirstError("lib/a.c", 7, "no.h: No such file or directory")),
        ("checking\nconfigure: error: Python 3.6 or later is required\n", FirstError("", 0, "Python 3.6 or later is required")),
        ("configure.ac:3: error: possibly undefined macro: X\n", FirstError("configure.ac", 3, "possibly undefined macro: X")),
        ("/usr/bin/ld: a.o: in function `main':\na.c:(.text+0x5): undefined reference to `f'\ncollect2: error: ld returned 1 exit status\n",
         FirstError("a.c", 0, "undefined reference to `f'")),
        ("/usr/bin/ld: lib/a.c:12: undefined reference to `f'\n", FirstError("lib/a.c", 12, "undefined reference to `f'")),
        ("make: *** No rule to make target 'x', needed by 'all'.  Stop.\novnlab: exit code 2 from: make\n",
         FirstError("", 0, "No rule to make target 'x', needed by 'all'.  Stop.")),
        ("ovnlab: exit code 7 from: sh ./boot.sh\n", FirstError("", 0, "exit code 7 from: sh ./boot.sh")),
        ("all went well\n", None),
    ],
)  # fmt: skip
def test_the_first_error_of_what_a_build_printed(text: str, found: FirstError | None) -> None:
    said = first_error(text)
    assert (said and (said.file, said.line, said.what)) == (found and (found.file, found.line, found.what))


def test_steps_are_counted_as_they_come(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with Log(tmp_path / "logs/x.log", lambda done, total: told.append((done, total))) as log:
        for piece in ("ovnlab: st", "eps 3\nmake: x\n  CC  ", " a.o\n  GEN b\n", "warning\n  CCLD  c\n  CC  more\n"):
            log.write(piece)
        assert log.text().count("\n") == 7
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3), (3, 3)]


def test_software_is_what_daemons_say_of_themselves() -> None:
    daemons = [
        DaemonStatus("ovs-vswitchd", True, 1, "3.1.0", "78205918246c5dbf"),
        DaemonStatus("ovsdb-server", True, 2, "3.1.0", "78205918246c5dbf"),
        DaemonStatus("ovnnb_db", False, None, ""),
        DaemonStatus("ovn-controller", True, 3, "23.03.1"),
    ]
    assert software_of(daemons) == "OVS 3.1.0 build 78205918, OVN 23.03.1"
    old = DaemonStatus("ovn-controller", True, 3, "22.03", outdated=True)
    assert "OVN 22.03 (old)" in software_of([*daemons, old])


def test_a_node_says_what_its_daemons_are_of() -> None:
    state = parse_probe(
        "daemon ovs-vswitchd 7 ovs-vswitchd (Open vSwitch) 3.1.0\nbuilt ovs-vswitchd\n"
        "daemon ovn-controller 8 ovn-controller 23.03.1\noutdated ovn-controller\nbuild builds/78205918246c5dbf\n"
    )
    assert state.build == "78205918246c5dbf"
    assert (state.daemons["ovs-vswitchd"].built, state.daemons["ovs-vswitchd"].outdated) == (True, False)
    assert (state.daemons["ovn-controller"].built, state.daemons["ovn-controller"].outdated) == (False, True)
