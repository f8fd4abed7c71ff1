#include <doctest/doctest.h>
#include <keel/base/error.hpp>

#include <cerrno>
#include <ostream>
#include <string>
#include <system_error>

using keel::errc;

namespace {

constexpr errc all_errors[] = {errc::operation_canceled, errc::timed_out,     errc::end_of_stream,
                               errc::unexpected_end_of_file, errc::bad_address, errc::not_supported,
                               errc::engine_unavailable, errc::closed,        errc::limit_reached};

std::string thrown_text(std::error_code code, const char* doing) {
  try {
    keel::throw_error(code, doing);
  } catch (const std::system_error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
}

}  // namespace

TEST_CASE("error: every error of keel is an error, has a message of its own, and keel's category") {
  for (const errc each : all_errors) {
    const std::error_code code = each;
    CAPTURE(code.value());
    CHECK(bool(code));
    CHECK(code.category() == keel::error_category());
    CHECK(code.message().find("Unknown") == std::string::npos);
    for (const errc other : all_errors) CHECK((code == other) == (each == other));
  }
  CHECK(std::string(keel::error_category().name()) == "keel");
}

TEST_CASE("error: a number that is no error of keel says so") {
  CHECK(std::error_code(999, keel::error_category()).message() == "Unknown keel error 999");
}

TEST_CASE("error: what the standard knows too, equals the standard's condition") {
  CHECK(std::error_code(errc::operation_canceled) == std::errc::operation_canceled);
  CHECK(std::error_code(errc::timed_out) == std::errc::timed_out);
  CHECK(std::error_code(errc::not_supported) == std::errc::not_supported);
  CHECK(std::error_code(errc::end_of_stream) != std::errc::broken_pipe);
}

TEST_CASE("error: our deadline and the kernel's ETIMEDOUT are one condition but two errors") {
  CHECK(keel::kernel_error(ETIMEDOUT) == std::errc::timed_out);
  CHECK(keel::kernel_error(ETIMEDOUT) != std::error_code(errc::timed_out));
}

TEST_CASE("error: a kernel answer may be given with either sign") {
  CHECK(keel::kernel_error(-ECONNRESET) == keel::kernel_error(ECONNRESET));
  CHECK(keel::kernel_error(-ECONNRESET) == std::errc::connection_reset);
  CHECK(keel::kernel_error(ENOENT).category() == std::system_category());
}

TEST_CASE("error: the kernel's ECANCELED is our operation_canceled") {
  CHECK(keel::kernel_error(ECANCELED) == std::error_code(errc::operation_canceled));
  CHECK(keel::kernel_error(-ECANCELED) == std::error_code(errc::operation_canceled));
}

TEST_CASE("error: zero is no error") { CHECK_FALSE(keel::kernel_error(0)); }

TEST_CASE("error: what is thrown says what was being tried") {
  CHECK(thrown_text(keel::kernel_error(ECONNRESET), "recv") == "recv: Connection reset by peer");
  CHECK(thrown_text(keel::kernel_error(ECONNRESET), nullptr) == "Connection reset by peer");
  CHECK(thrown_text(errc::closed, "send") == "send: The object is closed");
}
