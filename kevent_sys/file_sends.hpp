// Private to kevent_sys: aio_sendfile and aio_sendfile_path.
#pragma once

#include <keel/base/unique_fd.hpp>

#include "shared_queue.hpp"

#include <memory>

namespace keel::kevent_sys {

// What one request sends: a header, then a range of a file.
struct send_plan {
  int socket_fd = -1;
  int file_fd = -1;                     // or the path of a file to open and close
  std::unique_ptr<char[]> path;         // NUL-terminated
  std::unique_ptr<std::byte[]> header;  // copied from the caller's
  std::size_t header_bytes = 0;
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
  std::uint64_t socket_inode = 0;  // requests with the same one run one after the other
};

// A request: one step after the other, one operation at a time, one event at the end.
//
// Steps: waiting (another request has the socket) -> opening -> header -> body -> closing.
class file_send final : public registration {
 public:
  file_send(shared_queue& home, send_plan&& plan) noexcept;

  // A number > 0 that no other request of this process has.
  long cookie() const noexcept { return cookie_; }

  void start() noexcept override;
  void stop() noexcept override;
  bool busy() const noexcept override { return work_.in_flight(); }
  void delivered(ukevent& out) noexcept override;

 private:
  enum class step : std::uint8_t { waiting, opening, header, sending, reading, writing, closing };
  struct working : operation {
    explicit working(file_send& of) noexcept;
    file_send& owner;
  };

  int file() const noexcept { return own_file_ ? own_file_.get() : plan_.file_fd; }
  std::uint64_t left() const noexcept { return end_ - position_; }

  void run() noexcept;
  void submit(step s, const request& what) noexcept;
  int look_at_file() noexcept;
  void send_header() noexcept;
  void send_body() noexcept;
  void write_chunk() noexcept;
  static void answered(operation& self, answer a) noexcept;
  void on_answer(int value) noexcept;
  void moved(int value) noexcept;
  void end(int error) noexcept;
  void finish() noexcept;

  send_plan plan_;
  working work_;
  const long cookie_;
  unique_fd own_file_;
  std::size_t header_sent_ = 0;
  std::uint64_t position_ = 0;  // in the file: what the socket has taken ends here
  std::uint64_t end_ = 0;
  // For a socket that blocks, on which sendfile(2) would: what was read and is to be written.
  std::unique_ptr<std::byte[]> chunk_;
  std::uint32_t chunk_bytes_ = 0;
  std::uint32_t chunk_sent_ = 0;
  int error_ = 0;
  step step_ = step::waiting;
  bool ended_ = false;
};

}  // namespace keel::kevent_sys
