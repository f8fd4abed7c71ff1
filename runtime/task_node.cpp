#include <keel/runtime/task_node.hpp>

namespace keel {

void task_node::note_failure(const task_frame& frame) noexcept {
  // Its callee's failure, unless it has caught that one and gone on.
  const bool passes_on = failed_through == &frame && failed_call.line() == frame.awaits.line();
  if (!passes_on) failed_at = frame.awaits;
  failed_through = frame.caller;
  if (frame.caller != nullptr) failed_call = frame.caller->awaits;
}

}  // namespace keel
