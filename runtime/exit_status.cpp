#include <keel/runtime/exit_status.hpp>

#include <sys/wait.h>
#include <csignal>
#include <cstring>

namespace keel {

exit_status exit_status::from_wait(int status) noexcept {
  if (WIFSIGNALED(status)) return killed_by(WTERMSIG(status), WCOREDUMP(status));
  return exited_with(WEXITSTATUS(status));
}

std::string exit_status::text() const {
  if (exited()) return "exited with " + std::to_string(code_);
  const char* name = ::sigabbrev_np(signal_);
  std::string said =
      name != nullptr ? std::string("killed by SIG") + name : "killed by signal " + std::to_string(signal_);
  if (core_dumped_) said += " (core dumped)";
  return said;
}

}  // namespace keel
