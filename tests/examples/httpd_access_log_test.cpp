#include <doctest/doctest.h>

#include "httpd/access_log.hpp"

#include <keel/base/unique_fd.hpp>

#include <algorithm>
#include <string>

#include <unistd.h>

using namespace httpd;

namespace {

// What one access_log writes, through a pipe that holds it all.
template <class Fn>
std::string logged(Fn use) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  keel::unique_fd reader(ends[0]);
  keel::unique_fd writer(ends[1]);
  {
    access_log log(writer.get());
    use(log);
  }
  writer.reset();
  std::string text(64 * 1024, '\0');
  ssize_t n = read(reader.get(), text.data(), text.size());
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text;
}

}  // namespace

TEST_CASE("access_log: a line in the common format") {
  std::string text = logged([](access_log& log) {
    log.write({.client = "10.0.0.1", .second = 784'111'777, .request = "GET / HTTP/1.1", .status = 200,
               .body_bytes = 699});
  });

  CHECK(text == "10.0.0.1 - - [06/Nov/1994:08:49:37 +0000] \"GET / HTTP/1.1\" 200 699\n");
}

TEST_CASE("access_log: a client forges no lines") {
  std::string text = logged([](access_log& log) {
    const std::string_view request = "GET /\"\n\x1b[31m\\ HTTP/1.1";
    log.write({.client = "c", .second = 0, .request = request, .status = 400, .body_bytes = 0});
  });

  CHECK(text.find("GET /\\x22\\x0a\\x1b[31m\\x5c HTTP/1.1\" 400 0\n") != text.npos);
}

TEST_CASE("access_log: gathers lines, and loses none") {
  std::string text = logged([](access_log& log) {
    for (int i = 0; i < 500; ++i) {
      log.write({.client = "c", .second = 0, .request = "GET / HTTP/1.1", .status = 200, .body_bytes = 1});
    }
  });

  CHECK(std::count(text.begin(), text.end(), '\n') == 500);
}
