"""The files that the server's page is made of: its modules fit together, its words are in both languages."""

import base64
import hashlib
import json
import re
from importlib.resources import files

import pytest

pytest.importorskip("fastapi")

from liquidlm.serve.page import MODULES, document, page

WEB = files("liquidlm.serve") / "web"
SOURCES = {name: (WEB / f"{name}.js").read_text(encoding="utf-8") for name in MODULES}
HTML = (WEB / "page.html").read_text(encoding="utf-8")
WORDS: dict[str, dict[str, str]] = json.loads((WEB / "words.json").read_text(encoding="utf-8"))
TOP = re.compile(r"^(?:export )?(?:async )?(?:const|let|class|function\*?) (\w+)", re.MULTILINE)
IMPORT = re.compile(r'^import \{ (.*) \} from "\./(\w+)\.js";$', re.MULTILINE)


def test_every_module_is_in_the_page_and_has_its_own_names() -> None:
    assert {file.name for file in WEB.iterdir() if file.name.endswith(".js")} == {f"{m}.js" for m in MODULES}
    names = [name for source in SOURCES.values() for name in TOP.findall(source)]
    assert len(names) > 50 and len(names) == len(set(names))
    assert max(len(source.splitlines()) for source in SOURCES.values()) <= 400


def test_modules_import_what_earlier_ones_export() -> None:
    for i, name in enumerate(MODULES):
        for line, imported, other in ((m[0], m[1], m[2]) for m in IMPORT.finditer(SOURCES[name])):
            assert other in MODULES[:i], line
            for one in imported.split(", "):
                exported = rf"^export (async )?(const|let|class|function\*?) {re.escape(one)}(?!\w)"
                assert re.search(exported, SOURCES[other], re.MULTILINE), line
    script = document().split('<script type="module">')[1]
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)


def test_words_are_in_both_languages() -> None:
    assert list(WORDS["en"]) == list(WORDS["es"])
    for key, english in WORDS["en"].items():
        spanish = WORDS["es"][key]
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", spanish)), key
        assert english.strip() and spanish.strip() and "<" not in english + spanish


def test_words_that_are_used_exist_and_the_others_are_used() -> None:
    asked = set(re.findall(r'data-(?:word|label|hint)="([^"]+)"', HTML))
    script = "\n".join(SOURCES.values())
    quoted = set(re.findall(r'"([a-z_]+(?:\.[a-z_]+)*)"', script))
    assert asked <= WORDS["en"].keys()
    assert set(re.findall(r'\bwords\("([^"]+)"', script)) <= WORDS["en"].keys()
    told = {f"picture.{end}" for end in ("shortest", "middle", "longest")}  # the script puts these together
    unused = {key for key in WORDS["en"].keys() - asked - quoted - told if not key.endswith(".one")}
    assert unused == set()


def test_ids_that_are_used_exist() -> None:
    ids = re.findall(r'\bid="(\w+)"', HTML)
    assert len(ids) == len(set(ids))
    used = {name for source in SOURCES.values() for name in re.findall(r'\$\("(\w+)"\)', source)}
    assert used <= set(ids) and {"prompt", "written"} <= used


def test_the_policy_allows_what_the_page_has_and_nothing_else() -> None:
    answer = page()
    text, policy = bytes(answer.body).decode(), answer.headers["content-security-policy"]
    for tag, rule in (("style", "style-src"), ('script type="module"', "script-src")):
        inside = text.split(f"<{tag}>")[1].split(f"</{tag.split()[0]}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy and len(inside) > 1000
    assert "unsafe" not in policy and "default-src 'none'" in policy
    assert not re.search(r'\b(src|href)="(?!data:)|\son\w+="|\sstyle="', text.split("<script")[0])
    assert "innerHTML" not in text
