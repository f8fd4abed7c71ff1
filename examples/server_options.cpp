#include "server_options.hpp"

#include <CLI/CLI.hpp>

#include <cstdlib>
#include <string>

server_options parse_server_options(int argc, char** argv, const char* description,
                                    std::uint16_t default_port) {
  server_options chosen;
  chosen.port = default_port;
  std::string cpus = "1";
  std::string engine = "auto";
  CLI::App app(description);
  app.add_option("--port", chosen.port, "port to listen on; 0 = any free port")->capture_default_str();
  app.add_option("--cpus", cpus, "number of CPUs, or 'all'")
      ->check(CLI::Range(1, 256) | CLI::IsMember({"all"}));
  app.add_option("--engine", engine, "how to wait for events")
      ->check(CLI::IsMember({"auto", "uring", "epoll"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  chosen.cpus = cpus == "all" ? keel::cpu_list(keel::all_cpus) : keel::cpu_list(std::stoi(cpus));
  if (engine == "uring") chosen.engine = keel::engine_choice::uring;
  if (engine == "epoll") chosen.engine = keel::engine_choice::epoll;
  return chosen;
}
