"""Front matter, YAML and Python of the agents folder: every fault at its line, pure functions (R2, R6)."""

from pathlib import Path

import pytest

from capabilities.agent_files import look
from capabilities.agent_folder import AgentFolder
from capabilities.agent_groups import read_group
from capabilities.located_yaml import YamlFault, read_yaml
from capabilities.markdown_agent import MarkdownAgent, MarkdownFile, read_markdown
from capabilities.registry import Registry
from capabilities.world import World
from contracts.agents import AgentFault, AgentRecord
from tests.agents.folders import ECHO, FAILING, WRITER, lay


def opened(folder: Path) -> dict[str, AgentRecord]:
    """Read a folder; records by file. Groups are taken as they are built."""
    read = AgentFolder(folder, World(), Registry())
    read.read()
    read.judge(read.settle(), lambda _: None)
    return {record.source: record for record in read.records()}


def fault_of(folder: Path, name: str) -> tuple[str, int | None]:
    """The code and line of a broken file."""
    record = opened(folder)[name]
    assert record.status == "broken"
    assert record.fault is not None
    return record.fault.code, record.fault.line


# --- Markdown ---


def test_front_matter_and_instructions() -> None:
    """R2: every member of the front matter is read; the body is the instructions."""
    text = (
        "---\nid: scout\ndescription: Looks\ntools: [http.get, agent.writer]\nmemory_scope: shared:team\n"
        "wait_for: [brief]\nparallel: false\nconsumes: {log: log_text, 'tone?': tone}\n"
        "produces: change_records\nscopes: [crm:write]\n---\n\n"
        "Look around.\n\n---\nThis line stays.\n"
    )
    read = read_markdown(text, "scout.md")
    assert isinstance(read, MarkdownFile), read
    front = read.front
    assert (front.capability_id, front.tools, front.wait_for) == (
        "agent.scout",
        ["http.get", "agent.writer"],
        ["brief"],
    )
    assert (front.memory_scope, front.parallel) == ("shared:team", False)
    assert MarkdownAgent(read, World(), "scout.md").spec.scopes == ("crm:write",)
    assert read.instructions == "Look around.\n\n---\nThis line stays."
    assert read.located.line_of("/memory_scope") == 5


@pytest.mark.parametrize(
    ("front", "code", "line"),
    [
        ("id: a b", "bad_id", 2),
        ("id: ../../etc/passwd", "bad_id", 2),
        ("description: nobody", "bad_front_matter", 2),
        ("id: a\ncolour: red", "bad_front_matter", 3),
        ("id: a\ntools:\n  - fine\n  - 7", "bad_front_matter", 5),
        ("id: a\nmemory_scope: everything", "bad_front_matter", 3),
        ("id: a\nwait_for: [../x]", "bad_front_matter", 3),
        ("id: a\nscopes: ['*']", "bad_front_matter", 3),
        ("id: a\nparallel: perhaps", "bad_front_matter", 3),
        ("id: a\n  b: c: d", "bad_yaml", 3),
        ("id: a\nid: b", "bad_yaml", 3),
        ("id: a\ntools: &t [x]\nwait_for: *t", "bad_yaml", 4),
        ("id: !!python/object/apply:os.system [x]", "bad_yaml", 2),
        ("- just\n- a list", "bad_front_matter", 2),
        ("", "bad_front_matter", 2),
    ],
)
def test_a_fault_of_the_front_matter_is_told_with_its_line(front: str, code: str, line: int) -> None:
    """R2, R6: unknown keys, bad ids, and YAML that could build objects are refused where they stand."""
    fault = read_markdown(f"---\n{front}\n---\nDo it.", "a.md")
    assert isinstance(fault, AgentFault)
    assert (fault.code, fault.line) == (code, line), fault


def test_a_misspelt_key_is_told_what_was_meant() -> None:
    fault = read_markdown("---\nid: a\ndescripton: x\n---\nDo it.", "a.md")
    assert isinstance(fault, AgentFault)
    assert "description" in fault.message


@pytest.mark.parametrize(
    ("text", "line"),
    [("Do it.", 1), ("---\nid: a\nDo it.", 1), ("---\nid: a\n---\n  \n", 3), ("", 1)],
)
def test_a_file_without_front_matter_or_instructions(text: str, line: int) -> None:
    fault = read_markdown(text, "a.md")
    assert isinstance(fault, AgentFault)
    assert (fault.code, fault.line) == ("bad_front_matter", line)


def test_yaml_has_only_what_json_has() -> None:
    located = read_yaml("when: 2026-01-05\non: off\nn: 012\nlist:\n- 1\n- {deep: [x]}\n")
    assert located.value["when"] == "2026-01-05"
    assert located.value["on"] == "off"
    assert located.line_of("/list/1/deep") == 6
    assert located.line_of("/list/1/deep/9/nothing") == 6
    for text in ("a: .nan", "1: x", "a: *b", "? [x]\n: y", "a: !x y", "{"):
        with pytest.raises(YamlFault):
            read_yaml(text)


# --- Python ---


def test_a_capability_file_and_a_flow_that_knows_nothing_of_flex(tmp_path: Path) -> None:
    """R2: both are agents; the flow's result is the key that RESULT declares."""
    declared = """\
        from capabilities import capability

        @capability("mine.shout")
        def shout(bundle):
            '''Shouts.'''
            return bundle.objective.upper()
    """
    records = opened(lay(tmp_path, {"echo.py": ECHO, "mine.py": declared}))
    echo, mine = records["echo.py"], records["mine.py"]
    assert (echo.capability_id, echo.status, echo.line) == ("agent.echo", "loaded", 18)
    assert echo.description == "Says back what it is given."
    assert (mine.capability_id, mine.agent_id, mine.kind, mine.line) == ("mine.shout", "mine.shout", "python", 3)


def test_a_folder_with_flow_py_is_one_agent_and_its_modules_are_its_own(tmp_path: Path) -> None:
    """R2: two examples that each import their own ``nodes`` and ``utils`` do not see each other's."""
    flow = """\
        from pocketflow import Flow
        from nodes import Say

        def create_flow():
            return Flow(start=Say())
    """
    nodes = """\
        from pocketflow import Node
        from utils import WORD

        class Say(Node):
            def post(self, shared, prep_res, exec_res):
                shared["result"] = WORD
    """
    files = {f"{name}/flow.py": flow for name in ("one", "two")} | {
        f"{name}/nodes.py": nodes for name in ("one", "two")
    }
    files |= {f"{name}/utils.py": f"WORD = '{name}'\n" for name in ("one", "two")}
    records = opened(lay(tmp_path, files))
    assert {source: record.capability_id for source, record in records.items()} == {
        "one/flow.py": "agent.one", "two/flow.py": "agent.two",
    }  # fmt: skip
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("x = 1\ndef broken(:\n    pass\n", "python_error", 2),
        ("import json\n\n\nvalue = json.loads('{')\n", "python_error", 4),
        ("import nothing_like_this\n", "python_error", 1),
        ("x = 1\nfrom capabilities import capability\n@capability('a b')\ndef f(): ...\n", "python_error", 3),
        ("from capabilities import facet\nfacet('x', {'type': 'nonsense'})\n", "python_error", 2),
        ("x = 1\n", "no_agent", None),
        (
            "from pocketflow import Flow, Node\nleft = Flow(start=Node())\nright = Flow(start=Node())\n",
            "no_agent",
            None,
        ),
        ("def create_flow():\n    return 7\n", "no_agent", None),
        ("raise SystemExit(3)\n", "python_error", 1),
    ],
)
def test_a_broken_python_file_is_told_with_its_own_line(tmp_path: Path, text: str, code: str, line: int | None) -> None:
    """R2: the line is the file's, not that of the library that raised; nobody else is stopped."""
    records = opened(lay(tmp_path, {"bad.py": text, "echo.py": ECHO}))
    fault = records["bad.py"].fault
    assert fault is not None
    assert (fault.code, fault.line) == (code, line), fault
    assert str(tmp_path) not in fault.message
    assert records["echo.py"].status == "loaded"


def test_a_broken_neighbour_is_told_at_the_import(tmp_path: Path) -> None:
    files = {"agent/flow.py": "import json\nimport nodes\n", "agent/nodes.py": "x = 1\nx = = 2\n"}
    fault = opened(lay(tmp_path, files))["agent/flow.py"].fault
    assert fault is not None
    assert (fault.line, "nodes.py, line 2" in fault.message) == (2, True), fault


# --- who is taken ---


def test_the_second_of_one_id_is_broken_and_both_places_are_named(tmp_path: Path) -> None:
    """R2: which one wins does not depend on chance: files are read by name."""
    files = {"a.md": WRITER, "b.md": WRITER, "echo.py": ECHO, "deep/echo.py": ECHO}
    records = opened(lay(tmp_path, files))
    assert records["a.md"].status == "inactive"
    for name, first, second in (("b.md", "a.md:2", "b.md:2"), ("echo.py", "deep/echo.py:18", "echo.py:18")):
        fault = records[name].fault
        assert fault is not None
        assert (fault.code, f"{first} and {second}" in fault.message) == ("duplicate_id", True), fault
        assert fault.line == int(second.partition(":")[2])
    assert records["deep/echo.py"].status == "loaded"


def test_what_an_agent_names_must_be_there(tmp_path: Path) -> None:
    """R2: facets and tools are checked; an agent that would call itself, by whichever way, is refused."""
    head = "---\nid: x\n{}\n---\nDo it."
    cases = {
        "facet.md": ("consumes:\n  log: log_text_of_mine", "unknown_facet", 4),
        "made.md": ("produces: [change_records, nothing_known]", "unknown_facet", 3),
        "tool.md": ("tools:\n- http.get\n- no.such", "unknown_tool", 5),
        "self.md": ("tools: [http.get, agent.x]", "agent_cycle", 3),
        "around.md": ("description: y\ntools: [agent.y]", "agent_cycle", 4),
        "nowhere.md": ("remember: last", "bad_front_matter", 2),
        "twice.md": ("tools: [http.get, http.get]", "bad_front_matter", 3),
    }
    other = "---\nid: y\ntools: [agent.z]\n---\nDo it."
    lay(tmp_path, {name: head.format(front) for name, (front, _, _) in cases.items()})
    lay(tmp_path, {"y.md": other, "z.md": other.replace("id: y", "id: z").replace("agent.z", "agent.x")})
    assert {name: fault_of(tmp_path, name) for name in cases} == {
        name: (code, line) for name, (_, code, line) in cases.items()
    }


def test_what_the_front_matter_says_is_shown(tmp_path: Path) -> None:
    """The members of the front matter are on the agent."""
    front = "---\nid: x\ntools: [http.get, http.post]\nmemory_scope: isolated\nwait_for: [b, a]\n---\nDo it."
    lay(tmp_path, {"x.md": front})
    record = opened(tmp_path)["x.md"]
    assert (record.status, record.tools, record.wait_for) == ("inactive", ("http.get", "http.post"), ("b", "a"))
    assert record.memory_scope == "isolated"


# --- the folder ---


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    """R6: neither a file nor a directory elsewhere becomes code by a link; one inside is an ordinary file."""
    outside = lay(tmp_path / "outside", {"evil.py": "raise SystemExit('it ran')", "more/deep.py": ECHO})
    folder = lay(tmp_path / "agents", {"..data/writer.md": WRITER, "echo.py": ECHO})
    (folder / "evil.py").symlink_to(outside / "evil.py")
    (folder / "more").symlink_to(outside / "more")
    (folder / "gone.md").symlink_to(folder / "nowhere.md")
    (folder / "writer.md").symlink_to(folder / "..data" / "writer.md")
    (folder / "itself").symlink_to(folder)
    records = opened(folder)
    broken = {name: record.fault.code for name, record in records.items() if record.fault}
    assert broken == dict.fromkeys(("evil.py", "more", "gone.md"), "outside_folder") | {"itself": "unreadable"}
    assert records["writer.md"].status == "inactive"
    assert set(records) == {"evil.py", "more", "gone.md", "itself", "writer.md", "echo.py"}


def test_what_is_no_agent_is_passed_over(tmp_path: Path) -> None:
    files = {
        "README.md": "# Ours",
        "_draft.md": "x",
        ".hidden.py": "x",
        "notes.txt": "x",
        "flows/x.md": "x",
        "q.yaml": "x",
    }
    assert look(lay(tmp_path, files)) == []


def test_large_and_unreadable_files(tmp_path: Path) -> None:
    lay(tmp_path, {"big.md": "x" * 600_000})
    (tmp_path / "latin.md").write_bytes(b"---\nid: caf\xe9\n---\nx")
    assert fault_of(tmp_path, "big.md") == ("too_large", None)
    assert fault_of(tmp_path, "latin.md") == ("unreadable", 2)


def test_a_folder_that_is_too_much(tmp_path: Path) -> None:
    """R2: nothing is left out without a word."""
    lay(tmp_path, {f"many/a{number:04}.md": WRITER for number in range(1_005)})
    lay(tmp_path, {"/".join(["d"] * 10) + "/echo.py": ECHO})
    records = opened(tmp_path)
    faults = {name: record.fault.message for name, record in records.items() if record.fault}
    assert "those after many/a0998.md are not read" in faults["."]
    assert "over 8 directories deep" in faults["/".join("d" * 9)]


# --- groups ---


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("sequence: [echo]\nparallel: [echo]", "bad_group", 1),
        ("description: nobody", "bad_group", 1),
        ("sequence:\n- echo\n- agent: echo\n  retries: 3", "bad_group", 4),
        ("sequence:\n- parallel: [echo]\n  agent: echo", "bad_group", 2),
        ("id: a/b\nsequence: [echo]", "bad_id", 1),
        ("sequence: [echo\n", "bad_yaml", 2),
        ("settings: {deadline_seconds: -1}\nsequence: [echo]", "bad_group", 1),
    ],
)
def test_a_group_that_cannot_be_read(text: str, code: str, line: int) -> None:
    """R3: with the line."""
    fault = read_group(text, "flows/x.yaml", "x")
    assert isinstance(fault, AgentFault)
    assert (fault.code, fault.line) == (code, line), fault


def test_a_group_of_strangers_or_of_those_who_want_to_be_alone(tmp_path: Path) -> None:
    """R2, R3: unknown members, and members that say parallel: false, at their line."""
    alone = WRITER.replace("id: writer", "id: alone\nparallel: false")
    files = {
        "alone.md": alone, "echo.py": ECHO, "failing.py": FAILING,
        "flows/a.yaml": "sequence:\n- echo\n- nobody\n",
        "flows/b.yaml": "sequence:\n- echo\n- parallel:\n  - failing\n  - alone\n",
        "flows/c.yaml": "sequence:\n- alone\n- echo\n",
        "flows/d.yaml": "id: c\nsequence: [echo]\n",
        "flows/e.yaml": "id: e\ndefault: true\nsequence: [echo]\n",
        "flows/f.yaml": "id: f\n\ndefault: true\nsequence: [echo]\n",
    }  # fmt: skip
    lay(tmp_path, files)
    assert fault_of(tmp_path, "flows/a.yaml") == ("unknown_agent", 3)
    assert fault_of(tmp_path, "flows/b.yaml") == ("bad_group", 5)
    assert fault_of(tmp_path, "flows/d.yaml") == ("duplicate_id", 1)
    assert fault_of(tmp_path, "flows/f.yaml") == ("duplicate_id", 1)
    records = opened(tmp_path)
    assert records["flows/c.yaml"].status == "loaded"
    assert (records["flows/e.yaml"].default, records["flows/e.yaml"].flow_id) == (True, "e")
