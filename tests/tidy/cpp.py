"""A rough reader of C++: comments and strings told apart from code, and braces told apart by kind.

It knows no types and expands no macros. It is good enough to measure, and where it errs on a strange
construct, a plainer way to write that construct will please human readers too.
"""

import re
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"""(?P<line_comment>//[^\n]*)
      | (?P<block_comment>/\*.*?\*/)
      | (?P<raw>R"(?P<delimiter>[^()\s\\]*)\(.*?\)(?P=delimiter)")
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<char>(?<![0-9a-fA-F])'(?:[^'\\\n]|\\.)+')""",
    re.VERBOSE | re.DOTALL,
)
NOT_NEWLINE = re.compile(r"[^\n]")


def split(text):
    """Returns (code, comments, code_and_strings), each with the same line structure as `text`."""
    code, comments, quoted = [], [], []
    end = 0
    for token in TOKEN.finditer(text):
        blank = NOT_NEWLINE.sub(" ", token[0])
        is_comment = token.lastgroup in ("line_comment", "block_comment")
        before = text[end : token.start()]
        code += [before, blank if is_comment else '"' + blank[1:-1] + '"']
        comments += [NOT_NEWLINE.sub(" ", before), token[0] if is_comment else blank]
        quoted += [before, blank if is_comment else token[0]]
        end = token.end()
    rest = text[end:]
    return "".join(code) + rest, "".join(comments) + NOT_NEWLINE.sub(" ", rest), "".join(quoted) + rest


@dataclass
class Scope:
    kind: str  # namespace, class, function, or block
    head: str  # the code in front of the brace
    first_line: int  # where the head begins
    last_line: int = 0
    parent: "Scope | None" = None
    labels: list = field(default_factory=list)  # (line, "public" | "protected" | "private")

    def access_at(self, line):
        access = "private" if re.search(r"\bclass\b", self.head) else "public"
        for label_line, label in self.labels:
            if label_line <= line:
                access = label
        return access


PREPROCESSOR = re.compile(r"^[ \t]*#(?:[^\n\\]|\\.)*(?:\\\n[^\n]*)*", re.MULTILINE)
TYPE_HEAD = re.compile(r"^(template\s*<.*>\s*)?(requires\b.*)?(class|struct|union|enum)\b", re.DOTALL)
CONSTRUCTOR_COLON = re.compile(r"\)\s*(noexcept\s*(\([^()]*\))?)?\s*:(?!:)")
ACCESS_LABEL = re.compile(r"\b(public|protected|private)\s*$")


def kind_of(head, parent):
    """What the brace after `head` opens; None for a braced initialiser in the middle of something."""
    in_function = parent is not None and parent.kind in ("function", "block")
    if re.search(r"\bnamespace\b", head) or re.match(r'extern\s*"', head):
        return "namespace"
    if TYPE_HEAD.match(head) and not re.search(r"\)\s*(const|noexcept)*\s*$", head):
        return "class"
    if in_function:
        return "block"
    if CONSTRUCTOR_COLON.search(head) and re.search(r"[\w>]\s*$", head):
        return None  # a member initialiser; the function's body is still to come
    if re.search(r"(=|return|[\w>\]])\s*$", head) and ")" not in head:
        return None
    return "function" if ")" in head else "block"


def scopes(code):
    """All braces of `code` (as returned by split) that are scopes, in the order of their ends."""
    code = PREPROCESSOR.sub(lambda match: NOT_NEWLINE.sub(" ", match[0]), code)
    found, stack = [], []
    head_start, parentheses, line = 0, 0, 1
    line_of_head = 1
    current = None
    for at, char in enumerate(code):
        if char == "\n":
            line += 1
        elif char in "([":
            parentheses += 1
        elif char in ")]":
            parentheses = max(0, parentheses - 1)
        elif char == "{":
            head = code[head_start:at].strip()
            kind = None if parentheses > 0 else kind_of(head, current)
            stack.append((current, head_start, line_of_head, parentheses, kind))
            if kind is not None:
                before = len(code[head_start:at]) - len(code[head_start:at].lstrip())
                first = line_of_head + code[head_start : head_start + before].count("\n")
                current = Scope(kind, head, first, parent=current)
                head_start, line_of_head = at + 1, line
            parentheses = 0
        elif char == "}" and stack:
            parent, outer_start, outer_line, parentheses, kind = stack.pop()
            if kind is None:
                head_start, line_of_head = outer_start, outer_line
            else:
                current.last_line = line
                found.append(current)
                current = parent
                head_start, line_of_head = at + 1, line
        elif char == ";" and parentheses == 0:
            head_start, line_of_head = at + 1, line
        elif char == ":" and parentheses == 0 and current is not None and current.kind == "class":
            label = ACCESS_LABEL.search(code[head_start:at])
            if label and code[at + 1 : at + 2] != ":":
                current.labels.append((line, label[1]))
                head_start, line_of_head = at + 1, line
    return found


def chain_at(all_scopes, line):
    """The scopes around the beginning of `line`, innermost first."""
    around = [scope for scope in all_scopes if scope.first_line < line <= scope.last_line]
    return sorted(around, key=lambda scope: (-scope.first_line, scope.last_line))


INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)


def includes(code_and_strings):
    """Yields (line, "<" or '"', name) of each #include."""
    for match in INCLUDE.finditer(code_and_strings):
        yield code_and_strings.count("\n", 0, match.start()) + 1, match[1], match[2]
