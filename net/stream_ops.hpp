// The operations of streams, as types: what their functions return.
#pragma once

#include <keel/base/bytes.hpp>
#include <keel/base/unique_fd.hpp>
#include <keel/net/endpoint.hpp>
#include <keel/net/lease.hpp>
#include <keel/runtime/operation_awaiter.hpp>

#include <cstdint>

namespace keel::net {

class receiver;
class tcp_stream;

// Waits for bytes in a receiver.
class chunk_awaiter : private stop_callback, private wait_point {
 public:
  chunk_awaiter() noexcept;
  chunk_awaiter(chunk_awaiter&& other) noexcept = default;

  std::coroutine_handle<> start(receiver& from, waiter& up, stop_context& context) noexcept;
  bool canceled() const noexcept { return canceled_; }

 private:
  friend class receiver;
  static void stopped(stop_callback& self, stop_level level) noexcept;
  void chunk_ready() noexcept;

  receiver* from_ = nullptr;
  bool canceled_ = false;
};

class receive_op {
 public:
  explicit receive_op(tcp_stream& stream) noexcept : stream_(stream) {}
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<buffer_lease> take();

 private:
  tcp_stream& stream_;
  chunk_awaiter chunk_;
};

// Receives at least one byte, or exactly what fits. With a receiver, from its buffers.
class recv_op : public operation_awaiter, private waiter {
 public:
  recv_op(tcp_stream& stream, byte_span target, bool exactly) noexcept;
  recv_op(recv_op&& other) noexcept;
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<std::size_t> take() noexcept;

 private:
  static bool received(operation_awaiter& self) noexcept;
  static std::coroutine_handle<> chunk_ended(waiter* self) noexcept;
  std::coroutine_handle<> go_on() noexcept;
  bool enough(std::size_t received) noexcept;

  tcp_stream& stream_;
  byte_span target_;
  std::size_t filled_ = 0;
  std::error_code error_;
  bool exactly_;
  chunk_awaiter chunk_;
  waiter* up_ = nullptr;
  stop_context* context_ = nullptr;
};

class send_op : public operation_awaiter {
 public:
  send_op(tcp_stream& stream, const_byte_span bytes, std::uint32_t flags) noexcept;
  result<std::size_t> take() noexcept { return size_or_error("send"); }
};

class send_all_op : public operation_awaiter {
 public:
  send_all_op(tcp_stream& stream, const_byte_span bytes, std::uint32_t flags) noexcept;
  result<void> take() noexcept { return void_or_error("send"); }

 private:
  static bool sent(operation_awaiter& self) noexcept;
  void ask_for(const_byte_span bytes) noexcept;

  const_byte_span left_;
};

class sendfile_op : public operation_awaiter {
 public:
  sendfile_op(tcp_stream& stream, borrowed_fd file, std::uint64_t offset, std::uint64_t count) noexcept;
  result<std::uint64_t> take() noexcept;

 private:
  static bool sent(operation_awaiter& self) noexcept;

  std::uint64_t count_;
  bool file_ended_ = false;
};

class connect_op : public operation_awaiter {
 public:
  explicit connect_op(const endpoint& to) noexcept;
  explicit connect_op(const result<endpoint>& to) noexcept;
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<tcp_stream> take() noexcept;

 private:
  endpoint to_;
  std::error_code bad_address_;
  unique_fd socket_;
  alignas(8) std::byte address_[endpoint::sockaddr_size_max];
};

class close_op : private runnable, private wait_point {
 public:
  explicit close_op(tcp_stream& stream) noexcept : runnable(&freed), stream_(stream) {}
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  void take() noexcept {}

 private:
  static void freed(runnable& self) noexcept;
  bool step() noexcept;

  tcp_stream& stream_;
  unique_fd fd_;
};

}  // namespace keel::net
