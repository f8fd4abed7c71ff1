// kevent, readiness: the kevent calls of 2006, and a read for each event.

#include "collector.hpp"

#include <keel/kevent_sys/kevent.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace kev_bench {
namespace {

void check(int result, const char* what) {
  if (result >= 0) return;
  std::fprintf(stderr, "kev_bench: %s: %s (%d)\n", what, std::strerror(-result), -result);
  std::exit(1);
}

class readiness_collector : public collector {
 public:
  readiness_collector(field& handles, bool edge_triggered) noexcept
      : collector(handles), edge_triggered_(edge_triggered) {}

  void begin() override {
    queue_ = kevent_init(nullptr, 0, 0);
    check(queue_, "kevent_init");
    std::vector<ukevent> all(handles_.size());
    for (std::uint32_t i = 0; i < handles_.size(); ++i) {
      all[i].id.raw[0] = static_cast<std::uint32_t>(handles_.read_fd(i));
      all[i].type = handles_.sockets() ? KEVENT_SOCKET : KEVENT_PIPE;
      all[i].event = KEVENT_SOCKET_RECV;
      all[i].req_flags = KEVENT_REQ_ALWAYS_QUEUE | (edge_triggered_ ? KEVENT_REQ_ET : 0);
      all[i].user[0] = i;
    }
    const int refused = kevent_ctl(queue_, KEVENT_CTL_ADD, handles_.size(), all.data());
    check(refused, "kevent_ctl");
    if (refused > 0) check(static_cast<int>(all[0].ret_data[1]), "add a handle");
  }

  void collect() override {
    const int n = kevent_get_events(queue_, 1, batch, timespec{-1, 0}, ready_, 0);
    check(n, "kevent_get_events");
    for (int i = 0; i < n; ++i) {
      const std::uint32_t handle = ready_[i].user[0];
      if (handles_.read_one(handle)) handles_.took(handle);
    }
    if (!edge_triggered_ && n > 0) {
      check(kevent_ctl(queue_, KEVENT_CTL_MODIFY, static_cast<unsigned>(n), ready_), "kevent_ctl");
    }
  }

  void end() override { check(kevent_close(queue_), "kevent_close"); }
  // The library's own calls are not to be seen through its C interface.
  std::int64_t system_calls() const override { return -1; }

 private:
  static constexpr unsigned batch = 256;

  bool edge_triggered_;
  int queue_ = -1;
  ukevent ready_[batch];
};

}  // namespace

std::unique_ptr<collector> make_kevent_readiness(field& handles, bool edge_triggered) {
  return std::make_unique<readiness_collector>(handles, edge_triggered);
}

}  // namespace kev_bench
