#include "options.hpp"

#include <CLI/CLI.hpp>

namespace httpd {
namespace {

// "all" or a count.
std::string read_cpus(const std::string& text, unsigned& cpus) {
  if (text == "all") {
    cpus = 0;
    return {};
  }
  bool is_count = CLI::detail::lexical_cast(text, cpus) && cpus > 0 && cpus <= 256;
  return is_count ? "" : "--cpus: '" + text + "' is neither a count nor 'all'";
}

}  // namespace

parsed_options parse_options(int argc, char** argv) {
  options chosen;
  CLI::App app("Serves the files of a folder over HTTP/1.1, on keel's coroutines.", "httpd");
  app.add_option("DIR", chosen.folder, "the folder to serve")->required();
  app.add_option("--port", chosen.port, "0 is any free port")->capture_default_str();
  app.add_option("--address", chosen.address, "an address of this machine; 0.0.0.0 or :: is all")
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--cpus",
         [&chosen](const std::string& text) {
           std::string complaint = read_cpus(text, chosen.cpus);
           if (!complaint.empty()) throw CLI::ValidationError(complaint);
         },
         "how many CPUs serve, or 'all'")
      ->default_str("all");
  app.add_option("--max-connections", chosen.connections_max, "clients served at a time; others wait")
      ->check(CLI::PositiveNumber)
      ->default_str("what the limit of open files allows");
  app.add_flag("--hidden", chosen.hidden, "also serve files whose names begin with a dot");
  app.add_flag("--log", chosen.log, "write a line for each request to standard error");
  app.add_option("--engine", chosen.engine, "what waits for events; auto: KEEL_ENGINE, or what works best")
      ->check(CLI::IsMember({"auto", "uring", "epoll"}))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return {.chosen = {}, .exit_code = app.exit(problem) == 0 ? 0 : 1};
  }
  return {.chosen = chosen, .exit_code = 0};
}

std::string host_and_port(const options& chosen) {
  bool is_ipv6 = chosen.address.find(':') != chosen.address.npos && chosen.address.front() != '[';
  std::string host = is_ipv6 ? "[" + chosen.address + "]" : chosen.address;
  return host + ":" + std::to_string(chosen.port);
}

}  // namespace httpd
