#include <keel/kevent_sys/refusal.hpp>

#include <doctest/doctest.h>

#include <cerrno>
#include <string>
#include <string_view>

using keel::errc;
using keel::failure;
using keel::kernel_error;
using keel::kevent_sys::errno_of;
using keel::kevent_sys::likely_cause;
using keel::kevent_sys::print_refusal;

namespace {

bool points_at(int error_number, const char* where) {
  return std::string_view(likely_cause(error_number)).find(where) != std::string_view::npos;
}

}  // namespace

TEST_CASE("refusal: each errno that a kernel or a sandbox answers points at where to look") {
  CHECK(points_at(EPERM, "sysctl kernel.io_uring_disabled"));
  CHECK(points_at(EPERM, "seccomp"));
  CHECK(points_at(EACCES, "seccomp"));
  CHECK(points_at(ENOSYS, "seccomp"));
  CHECK(points_at(ENOSYS, "kernel has no io_uring"));
  CHECK(points_at(ENOMEM, "ulimit -l"));
  CHECK(points_at(EMFILE, "ulimit -n"));
  CHECK(points_at(EINVAL, "Linux 6.1"));
  CHECK(points_at(ENOTSUP, "Linux 6.1"));
}

TEST_CASE("refusal: it says the call, the kernel's words and the number; what does not fit is cut") {
  const failure why(kernel_error(EPERM), "io_uring_setup");
  char text[100];
  print_refusal(text, sizeof text, why);
  CHECK(text == std::string("io_uring_setup: Operation not permitted (1)"));
  char small[10];
  print_refusal(small, sizeof small, why);
  CHECK(small == std::string("io_uring_"));
}

TEST_CASE("refusal: an error of keel's own counts as ENOTSUP") {
  CHECK(errno_of(kernel_error(EPERM)) == EPERM);
  CHECK(errno_of(keel::make_error_code(errc::not_supported)) == ENOTSUP);
}
