// Private to kevent_sys: which engine is asked for, before anything is tried.
#pragma once

#include <keel/base/result.hpp>
#include <keel/kevent_sys/engine.hpp>

namespace keel::kevent_sys {

struct engine_decision {
  engine_choice choice = engine_choice::automatic;
  const char* reason = "";
  const char* insisting = nullptr;  // who asked; null: nobody did
};

// The program's choice, else KEEL_ENGINE, else automatic. Makes no system call.
// Errors: not_supported: KEEL_ENGINE names no engine.
result<engine_decision> decide(engine_choice asked) noexcept;

}  // namespace keel::kevent_sys
