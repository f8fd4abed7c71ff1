"""The rules about includes: the law of layers, and what a public header may cost."""

import re
from fnmatch import fnmatch

import house
from rules import rule

STANDARD_HEADER = re.compile(r"^[a-z_0-9]+$")
OURS = re.compile(r"^keel/(?:([a-z_0-9]+)/.+|keel\.hpp)$")


def layer_of(include):
    """The layer that <keel/...> belongs to, or None when it is not ours."""
    match = OURS.match(include)
    return (match[1] or "umbrella") if match else None


@rule
def layer_table(tree):
    for file in tree.layer_files:
        for line, bracket, name in file.includes:
            if bracket == '"':
                if "/" in name or f"{file.folder}/{name}" not in tree.by_path:
                    message = f'"{name}": quotes are for files of the same folder, others are <keel/...>'
                    yield file.finding(line, "layer_table", message)
                continue
            layer = layer_of(name)
            if layer is not None and layer != file.top and layer not in house.LAYERS[file.top]:
                message = f"{file.top} may not include <{name}>: includes go downward only"
                yield file.finding(line, "layer_table", message)


@rule
def public_header_includes(tree):
    for file in tree.public_headers:
        for line, bracket, name in file.includes:
            if bracket == '"' or layer_of(name) is not None:
                continue
            if file.path in house.C_HEADERS:
                if STANDARD_HEADER.match(name):
                    yield file.finding(line, "public_header_includes", f"<{name}> does not exist in C")
                continue
            if name in house.CHRONO_HEADERS and file.path in house.CHRONO_HOMES:
                continue
            if name in house.BANNED_IN_PUBLIC_HEADERS:
                message = f"<{name}> costs every user too much; it belongs in a .cpp"
                yield file.finding(line, "public_header_includes", message)
            elif not STANDARD_HEADER.match(name):
                message = f"<{name}>: a public header includes the C++ library and keel only"
                yield file.finding(line, "public_header_includes", message)


@rule
def c_header_stands_alone(tree):
    for file in tree.public_headers:
        if file.path in house.C_HEADERS:
            for line, bracket, name in file.includes:
                if bracket == '"' or layer_of(name) is not None:
                    message = f"{name}: the header for C includes nothing of keel"
                    yield file.finding(line, "c_header_stands_alone", message)


@rule
def system_header_homes(tree):
    for file in tree.layer_files:
        for line, _, name in file.includes:
            for pattern, homes in house.SYSTEM_HEADER_HOMES:
                at_home = file.top in homes and file not in tree.public_headers
                if fnmatch(name, pattern) and not at_home:
                    message = f"<{name}> is for the sources of {' and '.join(homes)} only"
                    yield file.finding(line, "system_header_homes", message)


@rule
def kernel_interface_words(tree):
    for file in tree.layer_files:
        if file.top == house.KERNEL_INTERFACE_HOME:
            continue
        for number, line in enumerate(file.code_and_strings.splitlines(), 1):
            match = re.search(house.KERNEL_INTERFACE_WORDS, line)
            if match:
                message = f"{match[0]}: only {house.KERNEL_INTERFACE_HOME} knows the kernel's interface"
                yield file.finding(number, "kernel_interface_words", message)
