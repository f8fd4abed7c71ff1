// The peers: an epoll loop, and no notification at all.

#include "collector.hpp"

#include <sys/epoll.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>

namespace kev_bench {
namespace {

class epoll_collector : public collector {
 public:
  epoll_collector(field& handles, bool edge_triggered) noexcept
      : collector(handles), events_(edge_triggered ? EPOLLIN | EPOLLET : EPOLLIN) {}

  void begin() override {
    fd_ = ::epoll_create1(EPOLL_CLOEXEC);
    for (std::uint32_t i = 0; i < handles_.size(); ++i) {
      epoll_event event{};
      event.events = events_;
      event.data.u32 = i;
      if (::epoll_ctl(fd_, EPOLL_CTL_ADD, handles_.read_fd(i), &event) != 0) {
        std::perror("kev_bench: epoll_ctl");
        std::exit(1);
      }
    }
  }

  void collect() override {
    const int n = ::epoll_wait(fd_, ready_, batch, -1);
    ++system_calls_;
    for (int i = 0; i < n; ++i) {
      ++system_calls_;
      if (handles_.read_one(ready_[i].data.u32)) handles_.took(ready_[i].data.u32);
    }
  }

  void end() override { ::close(fd_); }
  std::int64_t system_calls() const override { return system_calls_; }

 private:
  static constexpr int batch = 256;

  std::uint32_t events_;
  int fd_ = -1;
  std::int64_t system_calls_ = 0;
  epoll_event ready_[batch];
};

// Reads every handle, again and again.
class busy_collector : public collector {
 public:
  using collector::collector;

  void begin() override {}
  void collect() override {
    for (std::uint32_t i = 0; i < handles_.size(); ++i) {
      if (handles_.read_one(i)) handles_.took(i);
    }
    system_calls_ += handles_.size();
  }
  void end() override {}
  std::int64_t system_calls() const override { return system_calls_; }

 private:
  std::int64_t system_calls_ = 0;
};

}  // namespace

std::unique_ptr<collector> make_busy(field& handles) {
  return std::make_unique<busy_collector>(handles);
}

std::unique_ptr<collector> make_epoll(field& handles, bool edge_triggered) {
  return std::make_unique<epoll_collector>(handles, edge_triggered);
}

}  // namespace kev_bench
