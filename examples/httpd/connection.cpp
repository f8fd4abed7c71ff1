#include "connection.hpp"

#include "limits.hpp"

#include <algorithm>

using namespace keel;

namespace httpd {

task<> connection::run() {
  if (host_.log != nullptr) {
    auto peer = stream_.peer();
    client_ = peer && peer->is_ip() ? peer->host().to_string() : "-";
  }
  while (keep_alive_) {
    auto state = parser_.parse(input_.bytes());
    if (state == request_parser::progress::incomplete) {
      if (!co_await receive_more()) co_return;
      continue;
    }
    host_.clock.refresh();
    if (state == request_parser::progress::refused) {
      keep_alive_ = false;
      refuse(parser_.refusal());
      break;
    }
    if (!co_await answer()) co_return;
    input_.consume(parser_.size());
    parser_.start();
    first_ = in_request_ = said_continue_ = false;
    // Room for a small file must always be left: it is appended without looking.
    bool is_full = output_.size() + small_file_bytes_max + 1024 > output_bytes;
    if (is_full && !co_await flush(false)) co_return;
  }
  if (co_await flush(false) && !input_.empty()) co_await linger();
}

// Waits for the client: for long between two requests, for a shorter time within one, so that nobody can hold
// a connection by sending a byte now and then.
task<bool> connection::receive_more() {
  if (parser_.waits_for_continue() && !said_continue_) {
    said_continue_ = true;
    out().append("HTTP/1.1 100 Continue\r\n\r\n");
  }
  if (!output_.empty() && !co_await flush(false)) co_return false;
  if (input_.empty()) {
    duration patience = first_ ? request_timeout : idle_timeout;
    co_return take_input(co_await graceful(with_timeout(patience, stream_.receive())));
  }
  time_point now = scheduler::current()->now();
  if (!in_request_) deadline_ = now + request_timeout;
  in_request_ = true;
  co_return take_input(co_await with_timeout(deadline_ - now, stream_.receive()));
}

bool connection::take_input(result<net::buffer_lease> received) {
  if (received && !received->empty()) {
    input_.append(*std::move(received));
    return true;
  }
  if (!in_request_ || received.error() != errc::timed_out) return false;
  keep_alive_ = false;  // ends the loop in run()
  refuse(408);
  return true;
}

task<bool> connection::flush(bool more) {
  input_.keep();
  for (std::string_view rest = output_; !rest.empty();) {
    std::string_view slice = rest.substr(0, slice_bytes_first);
    rest.remove_prefix(slice.size());
    net::send_options options{.more = more || !rest.empty()};
    auto sent = co_await with_timeout(send_timeout, stream_.send_all(as_bytes(slice), options));
    if (!sent) co_return false;
  }
  host_.outputs.give_back(std::exchange(output_, {}));
  co_return true;
}

task<bool> connection::send_file(transfer part) {
  if (!co_await flush(part.count > 0)) co_return false;
  std::uint64_t slice = slice_bytes_first;
  while (part.count > 0) {
    slice = std::min(slice, part.count);
    time_point begin = scheduler::current()->now();
    auto sent = co_await with_timeout(send_timeout, stream_.sendfile(part.file, part.offset, slice));
    // A file that became shorter leaves no way to keep the promise of Content-Length, but to break off.
    if (!sent) co_return false;
    part.offset += slice;
    part.count -= slice;
    bool is_slow = scheduler::current()->now() - begin > slow_slice;
    slice = is_slow ? std::max(slice / 4, slice_bytes_min) : std::min(slice * 2, slice_bytes_max);
  }
  co_return true;
}

// Closing a socket with unread input makes the kernel send a reset, and a reset may overtake our last answer.
// So we say that we have finished, and look away until the client has, too.
task<> connection::linger() {
  if (!stream_.shutdown_send()) co_return;
  static_cast<void>(co_await graceful(with_timeout(linger_timeout, drain())));
}

task<> connection::drain() {
  for (;;) {
    auto received = co_await stream_.receive();
    if (!received || received->empty()) co_return;
  }
}

}  // namespace httpd
