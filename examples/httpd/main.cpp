// httpd: serves the files of a folder over HTTP/1.1, on all CPUs.
//
//     httpd [--port N] [--address A] [--cpus N|all] [--max-connections N] [--hidden] [--log] DIR
//     httpd --port 8080 .         then open http://127.0.0.1:8080/ and end it with Ctrl-C
//
// It prints one line, `listening on HOST:PORT`, and exits with 0 after a clean stop.
//
// How it is made, from here inwards:
//
//     server.cpp          each CPU: a listener, an acceptor, a task per client; start and stop
//     connection.cpp      a client: wait for requests, send answers, lose patience
//     answer.cpp          a request: from memory, from disk, or refused
//     input.hpp           received bytes, parsed in place
//     request_parser.cpp  http_parser, and the limits around it
//     target.cpp          "/a%20b/../c" to a safe path: the first wall
//     site.cpp            opening beneath the folder: the second wall
//     conditions.cpp      If-None-Match and its relatives; range.cpp, http_date.cpp
//     file_cache.cpp      small files with their heads, ready to send
//     response_head.cpp, file_description.cpp, content_type.cpp, listing.cpp, access_log.cpp: what they say
//     limits.hpp          every number
#include "options.hpp"
#include "server.hpp"

#include <cstdio>
#include <exception>

int main(int argc, char** argv) {
  httpd::parsed_options parsed = httpd::parse_options(argc, argv);
  if (!parsed.chosen) return parsed.exit_code;
  try {
    return httpd::serve(*parsed.chosen);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "httpd: %s\n", problem.what());
    return 1;
  }
}
