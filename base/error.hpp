// The errors that are keel's own, beside those of the kernel (std::system_category).
#pragma once

#include <system_error>

namespace keel {

// Each value with a counterpart in std::errc also compares equal to that condition:
// `error == std::errc::timed_out` holds for our deadline and for the kernel's ETIMEDOUT.
enum class errc {
  operation_canceled = 1,  // the task, its scope or its runtime was asked to stop
  timed_out,               // a deadline of with_timeout passed first
  end_of_stream,           // the peer stopped sending before the requested bytes had come
  unexpected_end_of_file,  // the file ended before the requested bytes had come
  bad_address,             // a text that is no address or endpoint
  not_supported,           // this engine or this kernel cannot do it
  engine_unavailable,      // the engine that was insisted on cannot be had
  closed,                  // the object was closed
  limit_reached,           // a queue or pool of keel is full
};

const std::error_category& error_category() noexcept;

inline std::error_code make_error_code(errc value) noexcept {
  return {static_cast<int>(value), error_category()};
}

// The error of a kernel answer: a positive or negative errno. ECANCELED becomes
// errc::operation_canceled, whoever in the kernel said it.
std::error_code kernel_error(int error_number) noexcept;

// Throws std::system_error: "recv: Connection reset by peer"; keel's own errors also say the way out. `doing`
// may be null.
[[noreturn]] void throw_error(std::error_code code, const char* doing);

}  // namespace keel

template <>
struct std::is_error_code_enum<keel::errc> : std::true_type {};
