// The command line that the small servers share.
#pragma once

#include <keel/runtime/run.hpp>

#include <cstdint>

struct server_options {
  std::uint16_t port = 0;  // 0 = any free port
  keel::cpu_list cpus = 1;
  keel::engine_choice engine = keel::engine_choice::automatic;
};

// Reads --port N, --cpus N|all and --engine auto|uring|epoll. Prints help or what is wrong, and exits, where
// that is due.
server_options parse_server_options(int argc, char** argv, const char* description,
                                    std::uint16_t default_port);
