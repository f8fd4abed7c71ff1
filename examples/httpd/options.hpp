// The command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace httpd {

struct options {
  std::string folder;
  std::string address = "127.0.0.1";  // the whole network sees the files only if asked for
  std::uint16_t port = 8080;
  unsigned cpus = 0;             // 0: all
  unsigned connections_max = 0;  // 0: as many as there are descriptors for
  bool hidden = false;
  bool log = false;
  std::string engine = "auto";  // or "uring", "epoll": insists
};

struct parsed_options {
  std::optional<options> chosen;  // none: the program ends here, with the exit code
  int exit_code = 0;
};

// Prints help and complaints itself.
parsed_options parse_options(int argc, char** argv);

// "127.0.0.1:8080", "[::1]:8080"
std::string host_and_port(const options& chosen);

}  // namespace httpd
