#pragma once

namespace keel::test {

// Notes that the running test case cannot do its work on this machine. The caller then returns from
// the test case. The program's last line tells how many were skipped; a program all of whose test
// cases were skipped ends with 77, which ctest shows as skipped.
void skip(const char* reason);

}  // namespace keel::test
