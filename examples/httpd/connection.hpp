// One client: requests in, answers out, in order, until one of us has had enough.
#pragma once

#include "conditions.hpp"
#include "file_description.hpp"
#include "input.hpp"
#include "request_parser.hpp"
#include "response_head.hpp"
#include "worker.hpp"

#include <keel/keel.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace httpd {

// Answers gather in output_ as long as complete requests are at hand; then one send takes them all. A large
// file is the exception: its head goes out with what has gathered, and the file follows by sendfile.
//
// A task<bool> of this class gives false when the connection is over: there is nobody to answer to.
//
// Lifetime: `host` outlives it. It does not move: its coroutines refer to it.
class connection {
 public:
  connection(worker& host, keel::net::tcp_stream stream) : host_(host), stream_(std::move(stream)) {}
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;
  ~connection() { host_.outputs.give_back(std::move(output_)); }

  // Serves the client to the end. Errors end the connection and are nobody else's business.
  //
  // Cancelled: a graceful stop ends it between two requests, a hard one at once.
  keel::task<> run();

 private:
  // A part of a file that goes out behind output_.
  struct transfer {
    keel::unique_fd file;
    std::uint64_t offset = 0;
    std::uint64_t count = 0;
  };

  // connection.cpp: input, output, and patience with both.
  keel::task<bool> receive_more();
  bool take_input(keel::result<keel::net::buffer_lease> received);
  keel::task<bool> flush(bool more);
  keel::task<bool> send_file(transfer part);
  keel::task<> linger();
  keel::task<> drain();

  // answer.cpp: what the answer to the request in parser_ is.
  keel::task<bool> answer();
  bool answer_from_memory(std::string_view path);
  keel::task<bool> answer_from_disk(std::string path, std::string query);
  keel::task<> answer_with_small_file(std::string key, std::string path, opened found);
  keel::task<bool> answer_with_large_file(std::string path, opened found);
  void answer_with_listing(std::string_view path, opened directory);
  void redirect_to_directory(std::string_view path, std::string_view query);
  void refuse(int status);

  // Parts of answers.
  std::string& out();
  response_head head_of(int status) const noexcept;
  std::uint64_t append_selected(const file_description& file, const selection& choice, std::string_view body);
  void log(int status, std::uint64_t body_bytes) const;

  worker& host_;
  keel::net::tcp_stream stream_;
  input input_;
  request_parser parser_;
  std::string output_;
  std::string client_;         // its address, for the log
  keel::time_point deadline_;  // of the request that has begun to arrive
  bool in_request_ = false;    // some of a request has arrived, and we wait for the rest
  bool said_continue_ = false;
  bool first_ = true;
  bool keep_alive_ = true;
};

}  // namespace httpd
