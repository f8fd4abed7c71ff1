"""Compiles programs that stand in the documentation."""

import subprocess

WARNINGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"]


class Compiler:
    def __init__(self, command, includes, libraries=()):
        self.command = [*command.split(), *WARNINGS, *(f"-I{folder}" for folder in includes), "-x", "c"]
        self.libraries = libraries

    def complaint(self, code):
        """What the compiler says about the code, or None."""
        return self._run(code, ["-fsyntax-only", "-"])

    def build(self, code, program):
        """The same, and makes the program."""
        return self._run(code, ["-O2", "-", "-o", str(program), "-x", "none", *self.libraries])

    def _run(self, code, arguments):
        command = [*self.command, *arguments]
        done = subprocess.run(command, input=code, check=False, capture_output=True, text=True)
        return done.stdout + done.stderr if done.returncode != 0 else None
