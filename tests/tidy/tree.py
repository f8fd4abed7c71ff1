"""The source tree as the rules see it: files, the layers, and which headers are public."""

import os
import re
from dataclasses import dataclass
from functools import cached_property

import cpp
import house

CPP_SUFFIXES = (".hpp", ".cpp", ".h", ".c")
CODE_SUFFIXES = CPP_SUFFIXES + (".py", ".cmake", ".txt", ".sh")


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    rule: str
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: [{self.rule}] {self.message}"


def is_text(path):
    with open(path, "rb") as stream:
        return b"\0" not in stream.read(4096)


class SourceFile:
    def __init__(self, root, path):
        self.path = path
        self.folder, self.name = os.path.split(path)
        self.top = path.split("/")[0]
        self.stem, self.suffix = os.path.splitext(self.name)
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as stream:
            self.text = stream.read()

    @property
    def is_cpp(self):
        return self.suffix in CPP_SUFFIXES

    @property
    def is_code(self):
        return self.suffix in CODE_SUFFIXES or self.text.startswith("#!")

    @cached_property
    def lines(self):
        return self.text.splitlines()

    @cached_property
    def _split(self):
        return cpp.split(self.text)

    @property
    def code(self):
        return self._split[0]

    @property
    def comments(self):
        return self._split[1]

    @property
    def code_and_strings(self):
        return self._split[2]

    @cached_property
    def scopes(self):
        return cpp.scopes(self.code)

    @cached_property
    def includes(self):
        return list(cpp.includes(self.code_and_strings))

    def finding(self, line, rule, message):
        return Finding(self.path, line, rule, message)


class Tree:
    def __init__(self, root):
        self.root = root
        self.files = [SourceFile(root, path) for path in sorted(self._walk())]
        self.by_path = {file.path: file for file in self.files}

    def _walk(self):
        for folder, subfolders, names in os.walk(self.root):
            here = os.path.relpath(folder, self.root)
            subfolders[:] = [name for name in subfolders if self._is_ours(folder, name)]
            for name in names:
                path = os.path.normpath(os.path.join(here, name))
                full = os.path.join(folder, name)
                if not os.path.islink(full) and is_text(full):
                    yield path

    def _is_ours(self, folder, name):
        full = os.path.join(folder, name)
        if os.path.exists(os.path.join(full, "CMakeCache.txt")) or os.path.islink(full):
            return False
        if folder == self.root and name == "build":
            return False
        return name == ".ci" or not (name.startswith(".") or name == "__pycache__")

    @cached_property
    def layer_files(self):
        return [file for file in self.files if file.is_cpp and file.top in house.LAYERS]

    def listed(self, folder, keyword=""):
        """The file names in a folder's CMakeLists.txt, or only those after a keyword like HEADERS."""
        lists = self.by_path.get(f"{folder}/CMakeLists.txt")
        if lists is None:
            return set()
        text = re.sub(r"#[^\n]*", "", lists.text)
        if keyword:
            text = " ".join(re.findall(keyword + r"\b([^A-Z)]*)", text))
        return set(re.findall(r"[\w./-]+\.\w+", text))

    @cached_property
    def public_headers(self):
        public = {layer: self.listed(layer, "HEADERS") for layer in house.LAYERS}
        return [file for file in self.layer_files if file.path.split("/", 1)[1] in public[file.top]]
