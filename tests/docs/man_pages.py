#!/usr/bin/env python3
"""The manual pages of docs/man keep up with kevent.h, and their examples compile.

    man_pages.py --include build/include_roots/kevent_sys [--compiler cc] [--library FILE_OR_FLAG ...]

Checks that each function of the header has a page (or a link to one) whose synopsis declares it alike, that
each constant is described, that each program of tools/ has a page, that each page referred to exists, that
all pages have the sections of the house in their order, that each example compiles without warnings, and,
where the libraries are given, that the one of kevent(7) does what is said there. Lints with mandoc where that
is installed. Prints what is wrong; ends with 1 if anything is.
"""

import argparse
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

from example import Compiler

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/man"
HEADER = ROOT / "kevent_sys/kevent.h"
PATIENCE_S = 60

SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "RETURN VALUE", "EXIT STATUS", "ERRORS",
            "ENVIRONMENT", "NOTES", "EXAMPLES", "SEE ALSO"]  # fmt: skip
REQUIRED = ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "SEE ALSO"]
REQUIRED_OF_CALLS = ["RETURN VALUE", "ERRORS", "NOTES"]

OUR_NAME = re.compile(r"^(kevent|keel|aio_sendfile)")
# Pages of others that ours may refer to; a name that is not here is a slip of the pen, or new.
THEIR_PAGES = set("""
    fcntl(2) fork(2) open(2) pidfd_open(2) poll(2) pread(2) pwrite(2) read(2) recv(2) send(2) sendfile(2)
    close(2) timer_create(2) timer_settime(2) waitpid(2) write(2) pthread_cancel(3) sigqueue(3) epoll(7)
    io_uring(7)
    """.split())  # fmt: skip

ESCAPES = {r"\-": "-", r"\e": "\\", r"\(bu": "*", r"\(aq": "'", r"\(dq": '"', r"\&": ""}
ESCAPE = re.compile(r"\\(?:\((?:bu|aq|dq)|[-e&]|f[BIRP])")


def unescape(text):
    return ESCAPE.sub(lambda match: ESCAPES.get(match[0], ""), text)


def plain(line):
    """One line of a page without its macro: `.BR poll (2)` is `poll(2)`."""
    match = re.match(r"\.(BR|RB|BI|IB|IR|RI|B|I|TP|SS|SH|IP)\b *(.*)", line)
    if match is None:
        return "" if line.startswith((".", "'")) else unescape(line)
    joint = "" if len(match[1]) == 2 and match[1] not in ("TP", "SS", "SH", "IP") else " "
    lexer = shlex.shlex(match[2], posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.quotes, lexer.escape, lexer.commenters = True, '"', "", ""
    return unescape(joint.join(lexer))


class Page:
    def __init__(self, path):
        self.path = path
        self.name, self.section = path.stem, path.suffix[1:]
        self.source = path.read_text().splitlines()
        link = re.fullmatch(r"\.so (man\d/(\S+)\.\d)", self.source[0]) if len(self.source) == 1 else None
        self.target = FOLDER / link[1] if link else None
        self.parts = {}
        part = []
        for line in self.source:
            if line.startswith(".SH "):
                part = self.parts.setdefault(line[4:].strip('"'), [])
            else:
                part.append(line)

    def text(self, part=None):
        lines = self.source if part is None else self.parts.get(part, [])
        return "\n".join(plain(line) for line in lines)

    def examples(self):
        """The code between .EX and .EE of the section EXAMPLES."""
        code = "\n".join(self.parts.get("EXAMPLES", []))
        return [unescape(block) for block in re.findall(r"^\.EX\n(.*?)^\.EE$", code, re.M | re.S)]

    def references(self):
        for line in self.source:
            match = re.match(r"(?:\.BR |\.RB \( )([\w\\-]+) \((\d)\)", line)
            if match:
                yield f"{unescape(match[1])}({match[2]})"


def squeeze(declaration):
    """A declaration in the spacing that all share: `int f(struct x *a)` is `int f(struct x* a)`."""
    text = re.sub(r"\s+", " ", declaration)
    text = re.sub(r"\s*\*\s*", "* ", text)
    return re.sub(r"\s*([(),;])\s*", r"\1", text).strip()


def declarations(text):
    """Maps the name of each function to its declaration."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    found = re.finditer(r"^(?:int|long) (\w+)\([^;{]*\);", text, re.M)
    return {match[1]: squeeze(match[0]) for match in found}


def check_calls(header, pages):
    for name, declaration in declarations(header).items():
        page = pages.get(f"{name}(3)")
        if page is None:
            yield f"no page for {name}(3)"
            continue
        page = pages.get(f"{page.target.stem}(3)") if page.target else page
        if page is None:
            continue  # said by check_links
        if name not in re.split(r"[\s,]+", page.text("NAME")):
            yield f"{page.path.name}: NAME does not name {name}"
        shown = declarations(page.text("SYNOPSIS")).get(name, "nothing")
        if shown != declaration:
            yield f"{page.path.name}: SYNOPSIS says\n    {shown}\n  but kevent.h\n    {declaration}"


def check_constants(header, pages):
    described = set(re.findall(r"\w+", "\n".join(page.text() for page in pages.values())))
    for name in re.findall(r"^#define (\w*KEVENT_\w+|\w+_KEVENT) ", header, re.M):
        if name not in described:
            yield f"{name} is not described in any page"


def check_links(pages):
    for page in pages.values():
        if page.target and not page.target.is_file():
            yield f"{page.path.name}: links to {page.target.name}, which is not there"
        for reference in page.references():
            if OUR_NAME.match(reference) and reference not in pages:
                yield f"{page.path.name}: refers to {reference}, which is not there"
            if not OUR_NAME.match(reference) and reference not in THEIR_PAGES:
                yield f"{page.path.name}: refers to {reference}, which this test does not know"


def check_form(pages):
    for page in pages.values():
        if page.target:
            continue
        title = [line for line in page.source if line.startswith(".TH ")]
        if not title or unescape(title[0]).split()[1:3] != [page.name, page.section]:
            yield f"{page.path.name}: .TH has another name or section than the file"
        required = REQUIRED + (REQUIRED_OF_CALLS if page.section == "3" else [])
        for part in set(required) - page.parts.keys():
            yield f"{page.path.name}: no section {part}"
        known = [part for part in page.parts if part in SECTIONS]
        for part in page.parts.keys() - set(known):
            yield f"{page.path.name}: unknown section {part}"
        if known != sorted(known, key=SECTIONS.index):
            yield f"{page.path.name}: sections are not in the order {', '.join(SECTIONS)}"


def check_tools(pages):
    """Each program of tools/ has a page that names its options."""
    for source in sorted((ROOT / "tools").glob("*.cpp")):
        name = source.stem.replace("_", "-")
        page = pages.get(f"{name}(1)")
        if page is None:
            yield f"no page for {name}(1)"
            continue
        calls = r'(?:add_option|add_flag|set_version_flag)\("(?:-\w,)?(--[\w-]+)'
        for option in re.findall(calls, source.read_text()):
            if option not in page.text("OPTIONS"):
                yield f"{page.path.name}: OPTIONS does not tell about {option}"


def check_examples(pages, compiler):
    for page in pages.values():
        if page.target or page.section == "1":
            continue
        if not page.examples():
            yield f"{page.path.name}: no example"
        for code in page.examples():
            said = compiler.complaint(code)
            if said:
                yield f"{page.path.name}: an example does not compile:\n{said}"


def check_overview_program(page, compiler):
    """It copies its input, which is a pipe here, and ends with it."""
    with tempfile.TemporaryDirectory() as folder:
        said = compiler.build(page.examples()[-1], f"{folder}/program")
        if said:
            yield f"{page.path.name}: the example does not link:\n{said}"
            return
        text = "".join(f"line {number}\n" for number in range(1000))
        done = subprocess.run([f"{folder}/program"], input=text, check=False, capture_output=True, text=True,
                              timeout=PATIENCE_S)
        lines = [line for line in done.stdout.splitlines(True) if not line.startswith("tick at")]
        if done.returncode != 0 or "".join(lines) != text:
            said = done.stdout[-200:] + done.stderr
            yield f"{page.path.name}: the example ends with {done.returncode}, and says\n{said}"


def check_lint(pages):
    if shutil.which("mandoc") is None:
        print("mandoc is not installed: the pages are not linted")
        return
    files = [str(page.path) for page in pages.values() if not page.target]
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *files], cwd=FOLDER, check=False,
                          capture_output=True, text=True)
    yield from (done.stdout + done.stderr).splitlines()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--include", action="append", required=True, help="a folder with keel/ in it")
    parser.add_argument("--compiler", default="cc")
    parser.add_argument("--library", action="append", default=[], help="for the linker; else nothing is run")
    arguments = parser.parse_args()

    header = HEADER.read_text()
    paths = sorted(FOLDER.glob("man?/*.?"))
    pages = {f"{path.stem}({path.suffix[1:]})": Page(path) for path in paths}
    compiler = Compiler(arguments.compiler, arguments.include, arguments.library)
    findings = [*check_calls(header, pages), *check_constants(header, pages), *check_tools(pages),
                *check_links(pages), *check_form(pages), *check_examples(pages, compiler),
                *check_lint(pages)]  # fmt: skip
    if arguments.library and not findings:
        findings += check_overview_program(pages["kevent(7)"], compiler)
    for finding in findings:
        print(finding)
    examples = sum(len(page.examples()) for page in pages.values())
    print(f"man pages: {len(pages)} pages, {examples} examples, {len(findings)} findings")
    return 1 if findings or not declarations(header) else 0


if __name__ == "__main__":
    sys.exit(main())
