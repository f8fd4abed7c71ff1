// Private to kevent_sys: what the engines of a world share: descriptors, and what stands behind them.
#pragma once

#include "sim_datagram.hpp"
#include "sim_file.hpp"
#include "sim_object.hpp"
#include "sim_stream.hpp"

#include <keel/base/unique_fd.hpp>

#include <map>
#include <string>
#include <string_view>

namespace keel::kevent_sys {

struct sim_kernel_options {
  std::uint64_t now_ns = 0;
  std::uint64_t seed = 0;
  std::uint32_t descriptors_max = 0;
  std::uint64_t disk_bytes = 0;
  bool real_descriptors = false;
};

// Thread safety: one thread, which runs all engines of the world.
class sim_kernel {
 public:
  static constexpr int first_fd = 1'000'000;

  explicit sim_kernel(const sim_kernel_options& options);

  // A new descriptor, the lowest that is free; or -EMFILE.
  int add(std::shared_ptr<sim_object> object);
  // `fd` is a descriptor of the process, and stands for `object` until the process closes it.
  void adopt(int fd, std::shared_ptr<sim_object> object);
  // Null: no such descriptor.
  std::shared_ptr<sim_object> find(int fd) noexcept;
  // Whether this kernel is asked. What connects with a descriptor of the process becomes a socket of ours.
  bool takes(const request& asked);
  // 0 or -EBADF.
  int close(int fd);
  std::uint32_t open_descriptors() const noexcept { return static_cast<std::uint32_t>(table_.size()); }
  // Descriptors of the process: what was closed or shut down behind our back. Gives those that were closed.
  std::vector<int> observe();

  // An operation begins to work on `object`, and has ended.
  void begin_use(sim_object& object) noexcept { ++object.users; }
  void end_use(sim_object& object);

  // Does what is asked. `target` is where received bytes go; a transfer moves at most `limit` bytes.
  // REQUIRES: object is what `asked.fd` stands for, or null for opcodes without one
  sim_step perform(const request& asked, sim_object* object, byte_span target, std::size_t limit);

  // Null: the address is in use.
  std::shared_ptr<sim_listener> listen(std::string_view address, std::uint32_t backlog, const sim_link& link);
  int connect_pair(int& first, int& second, const sim_link& link);
  int pipe(int& reading, int& writing, const sim_link& link);

  void watch(const std::vector<std::shared_ptr<sim_channel>>& made);
  // A line for each channel whose bytes do not add up.
  std::string unbalanced() const;

  sim_disk disk;
  bool has_disk = false;  // somebody has put a file: opens are ours
  sim_random random;
  std::uint64_t now_ns;  // of the engine that worked last

 private:
  struct entry {
    std::shared_ptr<sim_object> object;
    unique_fd keeper;         // the other end of a descriptor of the process that we have made
    std::uint64_t inode = 0;  // of the descriptor of the process; 0 = none
    bool shut = false;
  };

  int add_real(std::shared_ptr<sim_object> object);
  sim_step accept(sim_object& object);
  sim_step connect(const request& asked, sim_object& object);
  sim_step send_file(const request& asked, sim_object& object, std::size_t limit);
  sim_step open(const request& asked);

  const sim_kernel_options options_;
  std::map<int, entry> table_;
  std::map<std::string, std::weak_ptr<sim_listener>, std::less<>> listeners_;
  std::vector<std::shared_ptr<sim_channel>> channels_;
};

}  // namespace keel::kevent_sys
